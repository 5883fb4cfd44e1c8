"""Where each architecture keeps attention heads, intermediate activations and the hidden size.

All that differs between architectures stands in `ARCHITECTURES`, as data, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from qaprune_lib.errors import ModelError
from qaprune_lib.models.shape import ModelShape, text_to_indices


@dataclass(frozen=True)
class Architecture:
    """Module paths of one architecture; those of a layer are relative to the layer.

    The sub-blocks `attention` and `intermediate` are what a layer without heads or without
    activations skips. Where all layers share a bias of each head, computed once,
    `shared_bias` is its place among the positional arguments of `attention`; its shape there is
    [batch, n_heads, length, length].
    """

    model_type: str
    question_answering: str
    layers: str = "encoder.layer"
    attention: str = "attention.self"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    attention_output: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    intermediate: str = "intermediate"
    intermediate_dense: str = "intermediate.dense"
    output: str = "output.dense"
    output_norm: str = "output.LayerNorm"
    embeddings: str = "embeddings"
    embeddings_norm: str = "embeddings.LayerNorm"
    embeddings_project: str = "embeddings_project"
    shared_bias: int | None = None

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
            attention="attention.attn",
            query="attention.attn.q",
            key="attention.attn.k",
            value="attention.attn.v",
            attention_output="attention.attn.o",
            attention_norm="attention.LayerNorm",
            shared_bias=2,
        ),
    )
}

PRUNED_PREFIX = "pruned-"


def architecture_of(config: PretrainedConfig) -> Architecture:
    """The row of the table for a configuration, pruned or not.

    Raises:
        ModelError: the architecture is not in the table; the message lists those that are.
    """
    model_type = config.model_type.removeprefix(PRUNED_PREFIX)
    if model_type not in ARCHITECTURES:
        raise ModelError(
            f"architecture {config.model_type!r} is not supported; "
            f"supported are {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[model_type]


def shape_of(config: PretrainedConfig) -> ModelShape:
    """Sizes of the unpruned model, which a pruned model's configuration keeps as well."""
    return ModelShape(
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        head_size=config.hidden_size // config.num_attention_heads,
        d_intermediate=config.intermediate_size,
        d_embedding=config.hidden_size,
    )


@dataclass(frozen=True)
class Kept:
    """Indices that a model still has, in the numbering of the unpruned model."""

    attn: tuple[tuple[int, ...], ...]
    ff: tuple[tuple[int, ...], ...]
    emb: tuple[int, ...]


def kept_slices(config: PretrainedConfig) -> Kept:
    """What a model still has: everything, or what the `topology` of its configuration says.

    Raises:
        TopologyError: the configuration's topology is malformed.
    """
    shape = shape_of(config)
    topology = getattr(config, "topology", None)
    if topology is None:
        return Kept(
            attn=(tuple(range(shape.n_heads)),) * shape.n_layers,
            ff=(tuple(range(shape.d_intermediate)),) * shape.n_layers,
            emb=tuple(range(shape.d_embedding)),
        )
    return Kept(
        attn=tuple(text_to_indices(text, shape.n_heads) for text in topology["attn"]),
        ff=tuple(text_to_indices(text, shape.d_intermediate) for text in topology["ff"]),
        emb=text_to_indices(topology["emb"], shape.d_embedding),
    )


class Encoder:
    """A model seen through the table: its layers and the modules that gates and slices touch."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.architecture = architecture_of(model.config)
        self.shape = shape_of(model.config)
        self.kept = kept_slices(model.config)
        self.base: nn.Module = model.base_model
        self.layers: list[nn.Module] = list(
            cast(nn.ModuleList, self.base.get_submodule(self.architecture.layers))
        )

    def module(self, layer: int, name: str) -> nn.Module:
        """Module of one layer by its name in the table, as in `module(0, "query")`."""
        return self.layers[layer].get_submodule(getattr(self.architecture, name))

    def replace(self, layer: int, name: str, module: nn.Module) -> None:
        """Put another module in the place that the table names."""
        self.layers[layer].set_submodule(getattr(self.architecture, name), module)

    def embedding_output(self) -> nn.Module:
        """The module that makes the first hidden states: a LayerNorm, or ELECTRA's projection."""
        projection = getattr(self.base, self.architecture.embeddings_project, None)
        if projection is not None:
            return projection
        return self.base.get_submodule(self.architecture.embeddings_norm)
