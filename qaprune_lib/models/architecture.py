"""All that differs between architectures, as data.

A new architecture that is built like these is one more row of `ARCHITECTURES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import PretrainedConfig

from qaprune_lib.errors import ModelError
from qaprune_lib.models.shape import ModelShape

PRUNED_PREFIX = "pruned-"

_WHY_NOT = {"albert": "its layers share one set of weights, and pruning cuts each layer's own"}


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
