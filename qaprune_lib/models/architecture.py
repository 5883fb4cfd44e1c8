"""All that differs between architectures, as data, and a model seen through it.

A new architecture that is built like these is one more row of `ARCHITECTURES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from qaprune_lib.errors import GateError, ModelError
from qaprune_lib.models.heads import head_of

KINDS = ("attn", "ff", "emb")
"""The three masks of the paper (section 3.1): Γ^attn, Γ^ff and Γ^emb."""

OUTPUT_PROJECTIONS = {"attn": "attention_output", "ff": "output"}
"""By kind, the name in the table of the projection of which each slice has columns."""

PRUNED_PREFIX = "pruned-"

_WHY_NOT = {"albert": "its layers share one set of weights, and pruning cuts each layer's own"}


MAX_LAYERS, MAX_GATES = 1000, 10**7
"""Of a model: larger shapes are refused before anything of their size is made."""


class ModelShape(BaseModel):
    """Sizes of the unpruned model (paper section 3.1): n_L, n_H, head size, d_I and d_E.

    At most `MAX_LAYERS` layers, and `MAX_GATES` gates of a kind.

    >>> ModelShape(n_layers=2, n_heads=4, head_size=8, d_intermediate=6, d_embedding=32).gates("ff")
    (2, 6)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_layers: int = Field(gt=0, le=MAX_LAYERS)
    n_heads: int = Field(gt=0)
    head_size: int = Field(gt=0)
    d_intermediate: int = Field(gt=0)
    d_embedding: int = Field(gt=0, le=MAX_GATES)
    gated: bool = False
    """Whether each activation is multiplied by a second one, which has a row of its own."""

    @model_validator(mode="after")
    def _check(self) -> ModelShape:
        if self.n_layers * max(self.n_heads, self.d_intermediate) > MAX_GATES:
            raise ValueError(f"more than {MAX_GATES} heads or activations")
        return self

    def gates(self, kind: str) -> tuple[int, ...]:
        """Shape of the mask of one kind: [n_layers, n_heads], [n_layers, d_I] or [d_E]."""
        return {
            "attn": (self.n_layers, self.n_heads),
            "ff": (self.n_layers, self.d_intermediate),
            "emb": (self.d_embedding,),
        }[kind]

    def __str__(self) -> str:
        return (
            f"{self.n_layers} layers of {self.n_heads} heads of size {self.head_size}, "
            f"{self.d_intermediate} activations, {self.d_embedding} embedding dimensions"
        )


@dataclass(frozen=True)
class Architecture:
    """Names of one architecture; the defaults are BERT's.

    Attributes:
        model_type, question_answering: its name, and transformers' class with a span head.
        n_layers, n_heads, d_intermediate, d_embedding: of the sizes, in the configuration.
        token_types: whether it has them; another model would swallow them without a word.
        layers, embeddings, embeddings_norm, positions, embeddings_project: in the base model; the
            last is the layer from a smaller embedding, if there is one.
        relative_positions: a table that every layer projects as it does hidden states, and the norm
            behind it.
        final_norm: behind the last layer, where each sublayer's norm stands before it.
        obstacles: modules with which embedding dimensions cannot be gated.
        usual: how pretrained models differ from the configuration's defaults, for timing.
        attention: in a layer (as all that follow), what a layer without heads skips.
        per_head: projections of which each head has rows; those that a model lacks are passed over.
        attention_output: the projection of which each head has columns.
        head_count, attention_width: attributes of the module `attention`.
        shared_bias: where all layers share a bias of each head, computed once: its place among the
            positional arguments of `attention`; its shape is [batch, n_heads, length, length].
        activation: what a layer without activations skips.
        per_activation: projections of which each activation has a row.
        output: the projection of which each activation has a column.
        stacked: how many blocks of a kind's rows stand upon each other in a projection.
        attention_norm, output_norm: the norms behind the two sums; with a `final_norm`, those
            before the two sublayers. The first may lack one.
        span_layer: in the whole model.
        before_head: in the whole model, what hidden states pass on their way to the head's layers.
        head_inputs: the layers in it that take them, if the head's do not.
    """

    model_type: str
    question_answering: str
    n_layers: str = "num_hidden_layers"
    n_heads: str = "num_attention_heads"
    d_intermediate: str = "intermediate_size"
    d_embedding: str = "hidden_size"
    token_types: bool = True
    layers: str = "encoder.layer"
    embeddings: str = "embeddings"
    embeddings_norm: str = "embeddings.LayerNorm"
    positions: str = "embeddings.position_embeddings"
    embeddings_project: str = "embeddings_project"
    relative_positions: tuple[str, str] | None = None
    final_norm: str | None = None
    obstacles: tuple[str, ...] = ()
    usual: Mapping[str, Any] = field(default_factory=dict)
    attention: str = "attention.self"
    per_head: tuple[str, ...] = (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
    )
    attention_output: str = "attention.output.dense"
    head_count: str = "num_attention_heads"
    attention_width: str = "all_head_size"
    shared_bias: int | None = None
    activation: tuple[str, ...] = ("intermediate",)
    per_activation: tuple[str, ...] = ("intermediate.dense",)
    output: str = "output.dense"
    stacked: Mapping[str, int] = field(default_factory=dict)
    attention_norm: str = "attention.output.LayerNorm"
    output_norm: str = "output.LayerNorm"
    span_layer: str = "qa_outputs"
    before_head: tuple[str, ...] = ()
    head_inputs: tuple[str, ...] = ()

    @property
    def projects_inside(self) -> bool:
        """Whether the output projection is a part of the module `attention`."""
        return self.attention_output.startswith(f"{self.attention}.")


ARCHITECTURES: Mapping[str, Architecture] = {
    architecture.model_type: architecture
    for architecture in (
        Architecture("bert", "BertForQuestionAnswering"),
        Architecture("roberta", "RobertaForQuestionAnswering"),
        Architecture("xlm-roberta", "XLMRobertaForQuestionAnswering"),
        Architecture("camembert", "CamembertForQuestionAnswering"),
        Architecture("electra", "ElectraForQuestionAnswering"),
        Architecture(
            "mpnet",
            "MPNetForQuestionAnswering",
            token_types=False,
            attention="attention.attn",
            per_head=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
            attention_output="attention.attn.o",
            shared_bias=2,
            attention_norm="attention.LayerNorm",
        ),
        Architecture(
            "distilbert",
            "DistilBertForQuestionAnswering",
            n_layers="n_layers",
            n_heads="n_heads",
            d_intermediate="hidden_dim",
            d_embedding="dim",
            token_types=False,
            layers="transformer.layer",
            attention="attention",
            per_head=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
            attention_output="attention.out_lin",
            head_count="n_heads",
            attention_width="dim",
            activation=("ffn.lin1", "ffn.activation"),
            per_activation=("ffn.lin1",),
            output="ffn.lin2",
            attention_norm="sa_layer_norm",
            output_norm="output_layer_norm",
        ),
        Architecture(
            "deberta-v2",  # and v3
            "DebertaV2ForQuestionAnswering",
            relative_positions=("encoder.rel_embeddings", "encoder.LayerNorm"),
            obstacles=("encoder.conv", "embeddings.embed_proj"),
            usual={
                "relative_attention": True,
                "pos_att_type": ["p2c", "c2p"],
                "share_att_key": True,
                "norm_rel_ebd": "layer_norm",
                "position_buckets": 256,
                "position_biased_input": False,
                "type_vocab_size": 0,
            },
            per_head=(
                "attention.self.query_proj",
                "attention.self.key_proj",
                "attention.self.value_proj",
                "attention.self.pos_key_proj",
                "attention.self.pos_query_proj",
            ),
        ),
        Architecture(
            "modernbert",
            "ModernBertForQuestionAnswering",
            token_types=False,
            layers="layers",
            embeddings_norm="embeddings.norm",
            final_norm="final_norm",
            usual={f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")},
            attention="attn",
            per_head=("attn.Wqkv",),
            attention_output="attn.Wo",
            activation=("mlp",),
            per_activation=("mlp.Wi",),
            output="mlp.Wo",
            stacked={"attn.Wqkv": 3, "mlp.Wi": 2},  # query, key and value; activation and gate
            attention_norm="attn_norm",
            output_norm="mlp_norm",
            span_layer="classifier",
            before_head=("head", "drop"),
            head_inputs=("head.dense",),
        ),
    )
}


def architecture_of(config: PretrainedConfig | str) -> Architecture:
    """The row of the table for a configuration or a model type, pruned or not.

    Raises:
        ModelError: the architecture is not in the table; the message lists those that are. Or the
            model reads from left to right alone.
    """
    if getattr(config, "is_decoder", False):
        raise ModelError(
            "is_decoder: it reads from left to right, and an answer depends on what follows; set "
            "it to false if the weights are an encoder's"
        )
    model_type = config if isinstance(config, str) else config.model_type
    row = ARCHITECTURES.get(model_type.removeprefix(PRUNED_PREFIX))
    if row is None:
        raise ModelError(
            f"architecture {model_type!r} is not supported"
            + (f", as {_WHY_NOT[model_type]}" if model_type in _WHY_NOT else "")
            + f"; supported are {', '.join(ARCHITECTURES)}"
        )
    return row


def shape_of(config: PretrainedConfig) -> ModelShape:
    """Sizes of the unpruned model, which a pruned model's configuration keeps as well.

    >>> from transformers import DistilBertConfig
    >>> print(shape_of(DistilBertConfig()))
    6 layers of 12 heads of size 64, 3072 activations, 768 embedding dimensions
    """
    names = architecture_of(config)
    n_heads, d_embedding = getattr(config, names.n_heads), getattr(config, names.d_embedding)
    return ModelShape(
        n_layers=getattr(config, names.n_layers),
        n_heads=n_heads,
        head_size=d_embedding // n_heads,
        d_intermediate=getattr(config, names.d_intermediate),
        d_embedding=d_embedding,
        gated=any(names.stacked.get(path, 1) > 1 for path in names.per_activation),
    )


@dataclass(frozen=True)
class Part:
    """A linear layer, norm or table, and which kind of slices its rows and its columns are.

    Attributes:
        name: of the module, in the whole model.
        layer: where it stands; 0 outside of the layers.
        rows: kind of its outputs, None if no gate cuts them. A head has `head_size` of them.
        columns: the same of its inputs, or of the width of a table.
        stacked: how many blocks of such rows stand upon each other.
    """

    name: str
    layer: int
    rows: str | None
    columns: str | None
    stacked: int = 1


class Encoder:
    """A model seen through the table: its layers and the modules that gates and slices touch."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.architecture = architecture_of(model.config)
        self.shape = shape_of(model.config)
        self.base: nn.Module = model.base_model
        self.layers = list(self.base.get_submodule(self.architecture.layers).children())

    def module(self, layer: int, name: str) -> nn.Module:
        """Module of one layer by its name in the table, as in `module(0, "attention_output")`."""
        return self.layers[layer].get_submodule(getattr(self.architecture, name))

    def embedding_output(self) -> nn.Module:
        """The module that makes the first hidden states: a LayerNorm, or ELECTRA's projection."""
        names = self.architecture
        is_projected = hasattr(self.base, names.embeddings_project)
        path = names.embeddings_project if is_projected else names.embeddings_norm
        return self.base.get_submodule(path)

    def norms(self) -> Iterator[tuple[str, nn.LayerNorm]]:
        """All norms of hidden states behind the embeddings, each with its name."""
        paths = self.architecture
        for number, layer in enumerate(self.layers):
            for path in (paths.attention_norm, paths.output_norm):
                norm = layer.get_submodule(path)
                if isinstance(norm, nn.LayerNorm):
                    yield f"{paths.layers}.{number}.{path}", norm
        if paths.final_norm is not None:
            yield paths.final_norm, cast(nn.LayerNorm, self.base.get_submodule(paths.final_norm))
        relative = self.relative_norm()
        if relative is not None and paths.relative_positions is not None:
            yield paths.relative_positions[1], cast(nn.LayerNorm, relative)

    def relative_norm(self) -> nn.Module | None:
        """The norm behind relative positions, if there is one."""
        paths = self.architecture.relative_positions
        if paths is None or not all(_has(self.base, path) for path in paths):
            return None
        return self.base.get_submodule(paths[1])

    def check_embedding_gates(self) -> None:
        """GateError if embedding dimensions cannot be gated in this model."""
        found = [path for path in self.architecture.obstacles if _has(self.base, path)]
        table, _ = self.architecture.relative_positions or ("", "")
        if table and _has(self.base, table) and self.relative_norm() is None:
            found.append(f"{table} without a norm")
        if found:
            raise GateError(
                f"embedding dimensions cannot be gated in a {self.architecture.model_type} with "
                f"{found[0]}; heads and activations can"
            )

    def longest_input(self) -> int:
        """How many tokens the model has positions for."""
        if not _has(self.base, self.architecture.positions):
            return int(self.model.config.max_position_embeddings)
        table = cast(nn.Embedding, self.base.get_submodule(self.architecture.positions))
        # RoBERTa's and MPNet's positions start after their padding index
        used = 0 if table.padding_idx is None else table.padding_idx + 1
        return table.num_embeddings - used

    def parts(self) -> Iterator[Part]:
        """All that gates cut: in the layers, in the embeddings, in the head."""
        paths, prefix = self.architecture, self.model.base_model_prefix
        of_layer = (
            *((path, "attn", "emb") for path in paths.per_head),
            (paths.attention_output, "emb", "attn"),
            *((path, "ff", "emb") for path in paths.per_activation),
            (paths.output, "emb", "ff"),
        )
        for layer in range(len(self.layers)):
            for path, rows, columns in of_layer:
                if path in paths.per_head and not _has(self.layers[layer], path):
                    continue
                name = f"{prefix}.{paths.layers}.{layer}.{path}"
                yield Part(name, layer, rows, columns, paths.stacked.get(path, 1))
        for path, _ in self.norms():
            yield Part(f"{prefix}.{path}", 0, "emb", None)
        if isinstance(self.embedding_output(), nn.Linear):
            yield Part(f"{prefix}.{paths.embeddings_project}", 0, "emb", None)
        else:
            yield Part(f"{prefix}.{paths.embeddings_norm}", 0, "emb", None)
            (width,) = cast(nn.LayerNorm, self.embedding_output()).normalized_shape
            for name, table in self.base.get_submodule(paths.embeddings).named_children():
                if isinstance(table, nn.Embedding) and table.embedding_dim == width:
                    yield Part(f"{prefix}.{paths.embeddings}.{name}", 0, None, "emb")
        if paths.relative_positions is not None and _has(self.base, paths.relative_positions[0]):
            yield Part(f"{prefix}.{paths.relative_positions[0]}", 0, None, "emb")
        for name in paths.head_inputs or head_layers(self.model):
            yield Part(name, 0, None, "emb")


def head_layers(model: PreTrainedModel) -> tuple[str, ...]:
    """The layers that give the logits: of spans, and of what else the head has."""
    return (architecture_of(model.config).span_layer, *head_of(model).others)


def untrained_layers(model: PreTrainedModel) -> list[str]:
    """Layers of the head whose biases are exactly 0, as they are drawn: one step moves them."""
    layers = head_layers(model)
    return [name for name in layers if not model.get_parameter(f"{name}.bias").any()]


def _has(module: nn.Module, path: str) -> bool:
    for name in path.split("."):
        module = getattr(module, name, None)  # type: ignore[assignment]
    return isinstance(module, nn.Module)
