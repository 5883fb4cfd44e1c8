"""A model's logits for windows, batched by length; torch is imported only where a model runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from qaprune_lib.errors import ModelError
from qaprune_lib.progress import tqdm

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from qaprune_lib.data.batching import Collator

_CHUNK = 2048  # windows that are sorted by length together
Logits = tuple[np.ndarray, ...]


def window_logits(
    model: PreTrainedModel,
    features: Dataset,
    *,
    max_tokens: int | None = None,
    progress: bool = True,
) -> tuple[list[np.ndarray], ...]:
    """All logits that a model gives, each a list with one float32 array for every window.

    The lists are those of start and end, [length of the window], and of the answer type [5] where
    the model is one for Natural Questions; windows are in the order of `features`. Arguments and
    errors as for `stream_logits`.
    """
    from qaprune_lib.models.heads import head_of

    rows = list(
        stream_logits(
            model, features, max_tokens=max_tokens, progress=progress, chunk=len(features)
        )
    )
    return tuple([row[i] for row in rows] for i in range(len(head_of(model).logits)))


def stream_logits(
    model: PreTrainedModel,
    features: Dataset,
    *,
    max_tokens: int | None = None,
    progress: bool = True,
    chunk: int | None = None,
) -> Iterator[Logits]:
    """The logits of one window after the other, in memory for `chunk` windows (2048) at a time.

    Windows of like length are batched, at most `max_tokens` tokens a batch with padding (default:
    2048 on a CPU, whose caches hold no more, and 8192 elsewhere), on the model's device, without
    dropout or gradients; training modes are restored. Raises ModelError where the model carries
    no tokenizer.
    """
    from qaprune_lib.data.batching import Collator

    tokenizer = tokenizer_of(model)
    takes_types = "token_type_ids" in tokenizer.model_input_names
    collate = Collator(pad_token_id=cast(int, tokenizer.pad_token_id), token_type_ids=takes_types)
    if max_tokens is None:
        max_tokens = 2048 if next(model.parameters()).device.type == "cpu" else 8192
    windows = features.select_columns(["input_ids", "token_type_ids"])
    lengths: list[int] = list(features["length"])
    chunk = max(1, _CHUNK if chunk is None else chunk)
    with tqdm(total=len(lengths), desc="decoding", unit="window", disable=not progress) as bar:
        for first in range(0, len(lengths), chunk):
            last = min(first + chunk, len(lengths))
            part = windows.select(range(first, last))
            yield from _logits_of(model, part, lengths[first:last], collate, max_tokens, bar)


def tokenizer_of(model: PreTrainedModel) -> PreTrainedTokenizerFast:
    """The tokenizer that a model carries, or ModelError."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise ModelError("the model carries no tokenizer: use load_model, or set model.tokenizer")
    return cast("PreTrainedTokenizerFast", tokenizer)


def _logits_of(
    model: PreTrainedModel,
    windows: Dataset,
    lengths: list[int],
    collate: Collator,
    max_tokens: int,
    bar: tqdm,
) -> list[Logits]:
    import torch

    from qaprune_lib.data.batching import batches_by_tokens
    from qaprune_lib.models.heads import head_of

    head, device = head_of(model), next(model.parameters()).device
    found: list[Logits] = [()] * len(lengths)
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode():
            for batch in batches_by_tokens(lengths, max_tokens):
                inputs = collate(_rows(windows[batch]))
                output = model(**{k: v.to(device, non_blocking=True) for k, v in inputs.items()})
                logits = [getattr(output, name).float().cpu().numpy() for name in head.logits]
                cut = [name in head.positions for name in head.logits]
                for row, i in enumerate(batch):
                    # copies of their own: views would keep the padded batch alive
                    found[i] = tuple(
                        values[row, : lengths[i] if is_cut else None].copy()
                        for values, is_cut in zip(logits, cut, strict=True)
                    )
                bar.update(len(batch))
    finally:
        for module in training:
            module.training = True
    return found


def _rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
