"""Question-answering models with uneven layers: configuration, resizing and saving.

A pruned model is a stock transformers model whose linear layers were replaced by smaller ones.
Its configuration keeps the original sizes (transformers derives the head size from them) and,
under `topology`, which heads, activations and embedding dimensions remain. Importing this module
registers the pruned classes of each architecture, so that a saved folder loads in one call, by
`qaprune_lib.load_model` or by `AutoModelForQuestionAnswering`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

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
from qaprune_lib.models.heads import HEADS, Head, NaturalQuestionsHead, Task, head_of

TOPOLOGY_FILE = "topology.json"
ComputeDtype = Literal["float32", "bfloat16"]


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
    for name in head_of(model).layers:
        layer_of_head = cast(nn.Linear, model.get_submodule(name))
        model.set_submodule(name, nn.Linear(d_embedding, layer_of_head.out_features))


class QuestionAnsweringModel(PreTrainedModel):
    """Mixin of all models of this library: a stock model that carries its tokenizer.

    `save_pretrained` writes safetensors, the configuration, the tokenizer and, for a pruned model,
    `topology.json`; `load_model` reads such a folder in one call.

    Attributes:
        compute_dtype: what matrix products are computed in; for "bfloat16" by autocast, and weights
            stay as they are.
    """

    head: ClassVar[Head] = HEADS["squad"]
    compute_dtype: ComputeDtype = "float32"
    tokenizer: PreTrainedTokenizerFast
    training_report: Any  # of the run that trained it, if one did
    config_class: type[PretrainedConfig]

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """The forward pass, in the model's precision."""
        if self.compute_dtype == "float32":  # a caller's own autocast goes on
            return super().__call__(*inputs, **named)
        with torch.autocast(self.device.type, torch.bfloat16):
            return super().__call__(*inputs, **named)

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


_Classes = tuple[type[QuestionAnsweringModel], type[QuestionAnsweringModel]]


def _make_classes(architecture: Architecture) -> dict[Task, _Classes]:
    """For each task the full class, carrying its tokenizer, and the class of the pruned model."""
    stock = getattr(transformers, architecture.question_answering)
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
    classes: dict[Task, _Classes] = {}
    for task, head in HEADS.items():
        name = head.class_name(architecture.question_answering)
        layers = (NaturalQuestionsHead,) if task == "natural_questions" else ()
        full = type(name, (*layers, QuestionAnsweringModel, stock), {"__module__": __name__})
        pruned = type(
            f"Pruned{name}",
            (_Resized, *layers, QuestionAnsweringModel, stock),
            {"__module__": __name__, "config_class": config_class, "config": None},
        )
        classes[task] = full, pruned
    AutoConfig.register(config_class.model_type, config_class)  # type: ignore[attr-defined]
    # transformers takes the one that the configuration names under `architectures`
    both = tuple(pruned for _, pruned in classes.values())
    AutoModelForQuestionAnswering.register(config_class, both)
    return classes


_CLASSES: Mapping[str, dict[Task, _Classes]] = {
    model_type: _make_classes(architecture) for model_type, architecture in ARCHITECTURES.items()
}
for _full, _pruned in (pair for classes in _CLASSES.values() for pair in classes.values()):
    # importable by name, as transformers and copy expect
    for _class in (_full, _pruned, _pruned.config_class):
        globals()[_class.__name__] = _class


def full_class(model_type: str, task: Task = "squad") -> type[QuestionAnsweringModel]:
    """Class of an unpruned model of one architecture with the head of one task."""
    return _CLASSES[model_type][task][0]


def pruned_class(model_type: str, task: Task = "squad") -> type[QuestionAnsweringModel]:
    """Class of a pruned model of one architecture; its configuration class is `.config_class`."""
    return _CLASSES[model_type][task][1]
