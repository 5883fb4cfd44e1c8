"""A model seen through the table of architectures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from torch import nn
from transformers import PreTrainedModel

from qaprune_lib.errors import GateError
from qaprune_lib.models.architecture import architecture_of, shape_of
from qaprune_lib.models.heads import head_of

OUTPUT_PROJECTIONS = {"attn": "attention_output", "ff": "output"}
"""By kind, the name in the table of the projection of which each slice has columns."""


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
