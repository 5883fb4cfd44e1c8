"""Question-answering models with uneven layers: configuration, resizing and saving.

A pruned model is a stock transformers model whose linear layers were replaced by smaller ones.
Its configuration keeps the original sizes (transformers derives the head size from them) and,
under `topology`, which heads, activations and embedding dimensions remain. Importing this module
registers one pruned class for each architecture, so that a saved folder loads in one call, by
`qaprune_lib.load_model` or by `AutoModelForQuestionAnswering`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from qaprune_lib.models.encoder import ARCHITECTURES, PRUNED_PREFIX, Architecture, Encoder, Kept
from qaprune_lib.models.encoder import kept_slices as _kept_slices

TOPOLOGY_FILE = "topology.json"


class NoHeads(nn.Module):
    """Attention without a head: hands its input to `OnlyBias`, which stands behind it or inside."""

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
        """Return hidden states or the output bias [batch, length, d_E], and no weights."""
        for inside in self.children():
            hidden_states = inside(hidden_states)
        return hidden_states, None


class OnlyBias(nn.Module):
    """What a linear layer without inputs computes: its bias, at every position."""

    def __init__(self, d_output: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(d_output))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the bias expanded to the shape [batch, length, d_E] of the hidden states."""
        return self.bias.expand(hidden_states.shape)


@dataclass(frozen=True)
class TakeHeads:
    """Pre-hook of attention: of a bias that all layers share, it takes the kept heads' part."""

    argument: int
    heads: tuple[int, ...]

    def __call__(self, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Inputs whose bias [batch, n_heads, length, length] has this layer's heads only."""
        bias = inputs[self.argument]
        if bias is None:
            return inputs
        # views, as an index would be a tensor that goes to the GPU in every pass
        kept = torch.cat([bias[:, head : head + 1] for head in self.heads], dim=1)
        return (*inputs[: self.argument], kept, *inputs[self.argument + 1 :])


def resize(model: PreTrainedModel, kept: Kept) -> None:
    """Replace, in place, all modules whose size differs from what is kept; weights are new."""
    encoder = Encoder(model)
    d_embedding = len(kept.emb)
    for layer in range(encoder.shape.n_layers):
        _resize_attention(encoder, layer, kept.attn[layer], d_embedding)
        d_intermediate = len(kept.ff[layer])
        if d_intermediate:
            encoder.replace(layer, "intermediate_dense", nn.Linear(d_embedding, d_intermediate))
            encoder.replace(layer, "output", nn.Linear(d_intermediate, d_embedding))
        else:
            encoder.replace(layer, "intermediate", nn.Identity())
            encoder.replace(layer, "output", OnlyBias(d_embedding))
    if d_embedding < encoder.shape.d_embedding:
        _resize_embedding(model, encoder, d_embedding)


def _resize_attention(
    encoder: Encoder, layer: int, heads: tuple[int, ...], d_embedding: int
) -> None:
    if not heads:
        encoder.replace(layer, "attention", NoHeads())
        encoder.replace(layer, "attention_output", OnlyBias(d_embedding))
        return
    width = len(heads) * encoder.shape.head_size
    attention = encoder.module(layer, "attention")
    attention.num_attention_heads = len(heads)  # type: ignore[assignment]
    attention.all_head_size = width  # type: ignore[assignment]
    for name in ("query", "key", "value"):
        encoder.replace(layer, name, nn.Linear(d_embedding, width))
    encoder.replace(layer, "attention_output", nn.Linear(width, d_embedding))
    shared_bias = encoder.architecture.shared_bias
    if shared_bias is not None and len(heads) < encoder.shape.n_heads:
        attention.register_forward_pre_hook(TakeHeads(shared_bias, heads))


def _resize_embedding(model: PreTrainedModel, encoder: Encoder, d_embedding: int) -> None:
    def smaller_norm(norm: nn.Module) -> nn.LayerNorm:
        return nn.LayerNorm(d_embedding, eps=norm.eps)  # type: ignore[arg-type]

    architecture = encoder.architecture
    for layer in range(encoder.shape.n_layers):
        for name in ("attention_norm", "output_norm"):
            encoder.replace(layer, name, smaller_norm(encoder.module(layer, name)))
    projection = encoder.embedding_output()
    if isinstance(projection, nn.Linear):
        smaller = nn.Linear(projection.in_features, d_embedding)
        encoder.base.set_submodule(architecture.embeddings_project, smaller)
    else:
        encoder.base.set_submodule(architecture.embeddings_norm, smaller_norm(projection))
        embeddings = encoder.base.get_submodule(architecture.embeddings)
        for name, table in list(embeddings.named_children()):
            if isinstance(table, nn.Embedding):
                smaller_table = nn.Embedding(
                    table.num_embeddings, d_embedding, padding_idx=table.padding_idx
                )
                setattr(embeddings, name, smaller_table)
    head = model.get_submodule(architecture.head)
    model.set_submodule(architecture.head, nn.Linear(d_embedding, head.out_features))  # type: ignore[arg-type]


class QuestionAnsweringModel(PreTrainedModel):
    """Mixin of all models of this library: a stock model that carries its tokenizer.

    `save_pretrained` writes safetensors, the configuration, the tokenizer and, for a pruned model,
    `topology.json`; `load_model` reads such a folder in one call.
    """

    tokenizer: PreTrainedTokenizerFast
    training_report: Any  # of the run that trained it, if one did
    config_class: type[PretrainedConfig]

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike[str], **kwargs: Any
    ) -> None:
        """Save weights, configuration, tokenizer and topology into a folder."""
        super().save_pretrained(save_directory, **kwargs)
        folder = Path(save_directory)
        if getattr(self, "tokenizer", None) is not None:
            self.tokenizer.save_pretrained(folder)
        topology = getattr(self.config, "topology", None)
        if topology is not None:
            (folder / TOPOLOGY_FILE).write_text(
                json.dumps(topology, indent=1, sort_keys=True) + "\n"
            )


class _Resized(QuestionAnsweringModel):
    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        resize(self, _kept_slices(config))


def _make_classes(
    architecture: Architecture,
) -> tuple[type[QuestionAnsweringModel], type[QuestionAnsweringModel]]:
    """The stock class carrying its tokenizer, and the registered class of the pruned model."""
    name = architecture.question_answering
    stock = getattr(transformers, name)
    full = type(name, (QuestionAnsweringModel, stock), {"__module__": __name__})
    config_class = type(
        f"Pruned{stock.config_class.__name__}",
        (stock.config_class,),
        {
            "__module__": __name__,
            "__annotations__": {"topology": "dict | None"},
            "topology": None,
            "model_type": PRUNED_PREFIX + architecture.model_type,
        },
    )
    pruned = type(
        f"Pruned{name}",
        (_Resized, stock),
        {"__module__": __name__, "config_class": config_class, "config": None},
    )
    AutoConfig.register(config_class.model_type, config_class)  # type: ignore[attr-defined]
    AutoModelForQuestionAnswering.register(config_class, pruned)
    return full, pruned


_CLASSES: Mapping[str, tuple[type[QuestionAnsweringModel], type[QuestionAnsweringModel]]] = {
    model_type: _make_classes(architecture) for model_type, architecture in ARCHITECTURES.items()
}
for _pair in _CLASSES.values():
    globals()[_pair[1].__name__] = _pair[1]  # importable by name, as transformers and copy expect
    globals()[_pair[1].config_class.__name__] = _pair[1].config_class


def full_class(model_type: str) -> type[QuestionAnsweringModel]:
    """Class of an unpruned model of one architecture."""
    return _CLASSES[model_type][0]


def pruned_class(model_type: str) -> type[QuestionAnsweringModel]:
    """Class of a pruned model of one architecture; its configuration class is `.config_class`."""
    return _CLASSES[model_type][1]
