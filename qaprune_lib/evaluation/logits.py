"""A model's windows, and its logits for them, batched by length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from qaprune_lib.data.arrow_cache import column
from qaprune_lib.data.batching import Collator, batches_by_tokens, take_rows
from qaprune_lib.data.features import make_features
from qaprune_lib.data.tasks import QuestionData, task_of
from qaprune_lib.data.windows import Task, Windows
from qaprune_lib.errors import ModelError, SettingsError
from qaprune_lib.models import Encoder, head_of
from qaprune_lib.models.adopt import ADOPT, check_unwrapped
from qaprune_lib.models.sharing import evaluating
from qaprune_lib.progress import tqdm

_CHUNK = 2048  # windows that are sorted by length together
WindowLogits = tuple[np.ndarray, ...]
"""Of one window, float32: start and end [length]; of Natural Questions also answer types [5]."""


def features_for(
    model: PreTrainedModel,
    data: QuestionData,
    windows: Windows | None = None,
    *,
    training: bool = False,
    num_proc: int | None = None,
    cache_dir: Path | None = None,
) -> Dataset:
    """`make_features` with the model's tokenizer, once its head is that of the data's task.

    Raises:
        ModelError: a model for another task, or one that carries no tokenizer.
        SettingsError: windows longer than the model has positions for.
    """
    task, tokenizer = task_of(data), tokenizer_of(model)
    head = head_of(model)
    if head.task != task.name:
        raise ModelError(
            f"this model is one for {head.task!r}, and these questions are for {task.name!r}: "
            f"load it with load_model(..., task={task.name!r}), and train it on such questions"
        )
    sizes = windows_for(model, task, windows)
    return make_features(
        data, tokenizer, sizes, training=training, num_proc=num_proc, cache_dir=cache_dir
    )


def windows_for(model: Any, task: Task, windows: Windows | None) -> Windows:
    """The windows, by default the task's, or as long as the model can read where that is less.

    Raises:
        SettingsError: they are longer than the model has positions for.
    """
    sizes = task.resolve(windows)
    if not isinstance(model, PreTrainedModel):  # a wrapper, which does not say
        return sizes
    limit = Encoder(model).longest_input()
    if windows is None:
        return replace(sizes, max_length=min(sizes.max_length, limit))
    if sizes.max_length > limit:
        raise SettingsError(
            f"max_length={sizes.max_length} is more than the {limit} positions that this model "
            f"has: choose Windows({limit}) or less"
        )
    return sizes


def tokenizer_of(model: PreTrainedModel) -> PreTrainedTokenizerFast:
    """The tokenizer that a model carries; ModelError without one, or of a wrapped model."""
    check_unwrapped(model)
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise ModelError(f"the model carries no tokenizer: {ADOPT}")
    return cast(PreTrainedTokenizerFast, tokenizer)


def window_logits(
    model: PreTrainedModel,
    features: Dataset,
    *,
    max_tokens: int | None = None,
    progress: bool = True,
) -> list[WindowLogits]:
    """The logits of all windows, in their order; arguments and errors as for `stream_logits`."""
    return list(
        stream_logits(
            model, features, max_tokens=max_tokens, progress=progress, chunk=len(features)
        )
    )


_FEW_LENGTHS = 16
"""Tokens between the lengths of batches in bfloat16 on a CPU."""


def collator_of(model: PreTrainedModel) -> Collator:
    """What makes batches for a model.

    In bfloat16 on a CPU their lengths are multiples of 16: oneDNN compiles a kernel for each shape
    of a product, keeps 1,024 of them, and the layers of a pruned model have shapes of their own.

    Raises:
        ModelError: the model carries no tokenizer.
    """
    plain = Collator.of(tokenizer_of(model))
    on_cpu = next(model.parameters()).device.type == "cpu"
    if getattr(model, "compute_dtype", "float32") == "float32" or not on_cpu:
        return plain
    return replace(plain, multiple_of=_FEW_LENGTHS, longest=Encoder(model).longest_input())


def stream_logits(
    model: PreTrainedModel,
    features: Dataset,
    *,
    max_tokens: int | None = None,
    progress: bool = True,
    chunk: int | None = None,
) -> Iterator[WindowLogits]:
    """The logits of one window after the other, in memory for `chunk` windows (2048) at a time.

    Windows of like length are batched, at most `max_tokens` tokens a batch with padding (default:
    2048 on a CPU, whose caches hold no more, and 8192 elsewhere), on the model's device, without
    dropout or gradients; training modes are restored.

    Raises:
        ModelError: the model carries no tokenizer.
    """
    collator = collator_of(model)
    if max_tokens is None:
        max_tokens = 2048 if next(model.parameters()).device.type == "cpu" else 8192
    windows = features.select_columns(["input_ids", "token_type_ids"])
    lengths, chunk = column(features, "length"), max(1, chunk or _CHUNK)
    with tqdm(total=len(lengths), desc="decoding", unit="window", disable=not progress) as bar:
        for first in range(0, len(lengths), chunk):
            part = lengths[first : first + chunk]
            found: list[WindowLogits] = [()] * len(part)
            with evaluating(model), torch.inference_mode():
                for batch in batches_by_tokens(part, max_tokens):
                    rows = take_rows(windows, [first + place for place in batch])
                    for place, logits in zip(batch, run(model, collator(rows)), strict=True):
                        # copies of their own: views would keep the padded batch alive
                        found[place] = tuple(values.copy() for values in logits)
                    bar.update(len(batch))
            yield from found


def run(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> Iterator[WindowLogits]:
    """One forward pass: the logits of each window of a collated batch, without its padding."""
    head, device = head_of(model), next(model.parameters()).device
    output = model(**{name: x.to(device, non_blocking=True) for name, x in inputs.items()})
    by_name = [getattr(output, name).float().cpu().numpy() for name in head.logits]
    cut = [name in head.positions for name in head.logits]
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        yield tuple(
            values[row, : length if is_cut else None]
            for values, is_cut in zip(by_name, cut, strict=True)
        )
