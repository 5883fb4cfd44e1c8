"""Question-answering models with uneven layers: configuration, resizing and saving.

A pruned model is a stock transformers model whose linear layers were replaced by smaller ones.
Its configuration keeps the original sizes (transformers derives the head size from them) and,
under `topology`, which heads, activations and embedding dimensions remain. Importing this module
registers the pruned classes of each architecture, so that a saved folder loads in one call, by
`qaprune_lib.load_model` or by `AutoModelForQuestionAnswering`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

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

from qaprune_lib.cache import output_path, remove
from qaprune_lib.errors import ModelError
from qaprune_lib.models.architecture import ARCHITECTURES, PRUNED_PREFIX, Architecture
from qaprune_lib.models.attention import AttentionInFloat32
from qaprune_lib.models.encoder import Encoder
from qaprune_lib.models.folder import replace_folder
from qaprune_lib.models.heads import HEADS, Head, NaturalQuestionsHead, Task
from qaprune_lib.models.topology import Topology
from qaprune_lib.progress import without_bars_of_transformers

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
    """What a linear layer without inputs computes: its bias, if it has one, at every position."""

    def __init__(self, d_output: int, *, bias: bool) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(d_output)) if bias else None

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the bias expanded to the shape [batch, length, d_E] of the hidden states."""
        if self.bias is None:
            return torch.zeros_like(hidden_states)
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


def resize(model: PreTrainedModel, topology: Topology) -> None:
    """Replace, in place, all modules whose size differs from what is kept; weights are new."""
    encoder = Encoder(model)
    paths, shape = encoder.architecture, encoder.shape
    if len(topology.kept("emb")[0]) < shape.d_embedding:
        encoder.check_embedding_gates()
    widths = {
        "attn": [n * shape.head_size for n in topology.counts("attn")],
        "ff": topology.counts("ff"),
        "emb": topology.counts("emb") * shape.n_layers,
    }
    for part in list(encoder.parts()):
        rows, columns = (
            None if kind is None else widths[kind][part.layer] for kind in (part.rows, part.columns)
        )
        if rows != 0 and columns != 0:
            rows = None if rows is None else rows * part.stacked
            model.set_submodule(part.name, _resized(model.get_submodule(part.name), rows, columns))
    layers = zip(encoder.layers, topology.kept("attn"), widths["ff"], strict=True)
    for layer, heads, width in layers:
        empty = {
            path: OnlyBias(widths["emb"][0], bias=layer.get_submodule(path).bias is not None)
            for path in (paths.attention_output, paths.output)
        }
        if not heads:
            layer.set_submodule(paths.attention, NoHeads())
            layer.set_submodule(paths.attention_output, empty[paths.attention_output])
        elif len(heads) < shape.n_heads:
            attention = layer.get_submodule(paths.attention)
            setattr(attention, paths.head_count, len(heads))
            setattr(attention, paths.attention_width, len(heads) * shape.head_size)
            if paths.shared_bias is not None:
                attention.register_forward_pre_hook(TakeHeads(paths.shared_bias, heads))
        if not width:
            for path in paths.activation:
                layer.set_submodule(path, nn.Sequential())  # hands on, to the bias if it is inside
            layer.set_submodule(paths.output, empty[paths.output])


def _resized(module: Any, rows: int | None, columns: int | None) -> nn.Module:
    """The same kind of module with so many outputs and inputs, None for as many as it has."""
    have = tuple(module.weight.shape)
    size = tuple(new or old for new, old in zip((rows, columns), have, strict=False))
    if size == have:
        return module
    if isinstance(module, nn.LayerNorm):
        return nn.LayerNorm(size, eps=module.eps, bias=module.bias is not None)
    if isinstance(module, nn.Embedding):
        return nn.Embedding(size[0], size[1], module.padding_idx)
    return nn.Linear(size[1], size[0], bias=module.bias is not None)


class QuestionAnsweringModel(PreTrainedModel):
    """Mixin of all models of this library: a stock model that carries its tokenizer.

    `save_pretrained` writes safetensors, the configuration, the tokenizer and, for a pruned model,
    `topology.json`; `load_model` reads such a folder in one call.

    Attributes:
        compute_dtype: what matrix products are computed in; for "bfloat16" by autocast, and weights
            stay as they are.
        exported_file: computes the logits in the model's stead; None of a model in torch.
    """

    task_head: ClassVar[Head] = HEADS["squad"]
    compute_dtype: ComputeDtype = "float32"
    exported_file: str | None = None
    tokenizer: PreTrainedTokenizerFast
    training_report: Any  # of the run that trained it, if one did
    config_class: type[PretrainedConfig]

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """The forward pass, in the model's precision."""
        if self.compute_dtype == "float32":  # a caller's own autocast goes on
            return super().__call__(*inputs, **named)
        with ExitStack() as precision:
            precision.enter_context(torch.autocast(self.device.type, torch.bfloat16))
            if self.device.type == "cpu" and torch.is_grad_enabled():
                precision.enter_context(AttentionInFloat32())
            return super().__call__(*inputs, **named)

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike[str], **kwargs: Any
    ) -> None:
        """Save weights, configuration, tokenizer and topology into a folder.

        All is written beside it first: whenever the process dies, the folder holds what it held
        before, or the new model. Other files that lie there stay.

        Raises:
            ModelError: a file of that name.
            SettingsError: no name that a folder can have.
        """
        named = output_path(save_directory)
        target = Path(os.path.realpath(named))  # a link goes on to lead there
        if os.path.lexists(target) and not target.is_dir():
            raise ModelError(f"{target}: is a file; a model is saved into a folder")
        if kwargs.get("push_to_hub"):
            kwargs.setdefault("repo_id", named.name)
        new = target.with_name(f".{target.name}.saving")
        remove(new)  # of a process that died
        try:
            with without_bars_of_transformers():
                super().save_pretrained(new, **kwargs)
            if getattr(self, "tokenizer", None) is not None:
                self.tokenizer.save_pretrained(new)
            if getattr(self.config, "topology", None) is not None:
                Topology.of(self).save(new / TOPOLOGY_FILE)
            replace_folder(new, target)
        finally:
            remove(new)


class _Resized(QuestionAnsweringModel):
    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        resize(self, Topology.of(config))


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
        common: dict[str, Any] = {"__module__": __name__}
        if layers:
            common |= {key: getattr(architecture, key) for key in ("span_layer", "before_head")}
        full = type(name, (*layers, QuestionAnsweringModel, stock), common)
        pruned = type(
            f"Pruned{name}",
            (_Resized, *layers, QuestionAnsweringModel, stock),
            {**common, "config_class": config_class, "config": None},
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
