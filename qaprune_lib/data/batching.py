"""Batches of windows: of like lengths, padded to the longest row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from qaprune_lib.errors import counts

MEGABATCH = 50  # global batches that are sorted by length together
LABELS = ("start_position", "end_position", "answer_type")
"""Columns of windows that a model learns; in a batch their names are plural."""


@dataclass(frozen=True)
class Collator:
    """Pads rows of `make_features` on the right to the longest one, for a `Trainer` or alone.

    Attributes:
        pad_token_id: fills ``input_ids``.
        token_type_ids: whether the model takes them.
        multiple_of: a batch's length in tokens is rounded up to one, but not beyond `longest`.
        longest: how many tokens the model takes; 0: batches are as long as their longest row.
    """

    pad_token_id: int
    token_type_ids: bool
    multiple_of: int = 1
    longest: int = 0

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Collator:
        """The collator that pads as a tokenizer does."""
        takes_types = "token_type_ids" in tokenizer.model_input_names
        return cls(cast(int, tokenizer.pad_token_id), takes_types)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch.

        Returns:
            ``input_ids`` and ``attention_mask`` (1 at real tokens), [batch, length] int64;
            ``token_type_ids`` if asked for; ``start_positions``, ``end_positions`` and
            ``answer_types``, [batch] int64, where the rows have such labels; every column whose
            name ends in ``_logits``, [batch, length] (or [batch, n_classes]) float32, its padding
            at the dtype's minimum. Columns that a model does not take are left out.
        """
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        longest = int(lengths.max())
        rounded = -(-longest // self.multiple_of) * self.multiple_of
        width = max(longest, min(rounded, self.longest))
        batch = {
            "input_ids": _pad(rows, "input_ids", self.pad_token_id, torch.int64, width),
            "attention_mask": (torch.arange(width) < lengths[:, None]).long(),
        }
        if self.token_type_ids:
            batch["token_type_ids"] = _pad(rows, "token_type_ids", 0, torch.int64, width)
        for name in rows[0]:
            if name in LABELS:
                batch[f"{name}s"] = torch.tensor([int(row[name]) for row in rows])
            elif name.endswith("_logits"):
                minimum = torch.finfo(torch.float32).min
                # of classes, not of positions; a teacher's are called `teacher_…`
                size = 0 if name.endswith("answer_type_logits") else width
                batch[name] = _pad(rows, name, minimum, torch.float32, size)
        return batch


def take_rows(features: Dataset, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Some rows, read at once."""
    columns = features[rows]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def length_grouped_order(
    lengths: Sequence[int] | np.ndarray, global_batch: int, *, seed: int, epoch: int
) -> list[int]:
    """A permutation of the rows whose runs of ``global_batch`` have like lengths.

    Rows are shuffled, cut into megabatches of 50 global batches, sorted by length within each,
    cut into global batches, and these are shuffled. An incomplete batch stays last. The order
    depends on the arguments alone, so that a resumed run meets the same batches.
    """
    (global_batch,) = counts(global_batch=global_batch)
    generator = np.random.default_rng([seed, epoch])
    shuffled = generator.permutation(len(lengths))
    by_row = np.asarray(lengths)
    size = MEGABATCH * global_batch
    n_full = len(shuffled) - len(shuffled) % global_batch
    batches: list[np.ndarray] = []
    for start in range(0, n_full, size):
        mega = shuffled[start : min(start + size, n_full)]
        mega = mega[np.argsort(-by_row[mega], kind="stable")]
        batches.extend(mega.reshape(-1, global_batch))
    order = [batches[index] for index in generator.permutation(len(batches))]
    return np.concatenate([*order, shuffled[n_full:]]).tolist()


def batches_by_tokens(lengths: Sequence[int] | np.ndarray, max_tokens: int) -> list[list[int]]:
    """Rows sorted by length, the longest first, in batches of at most ``max_tokens`` positions.

    Padding counts; a row longer than ``max_tokens`` makes a batch by itself.
    """
    (max_tokens,) = counts(max_tokens=max_tokens)
    by_row = np.asarray(lengths)
    order = np.argsort(-by_row, kind="stable")
    batches, start = [], 0
    while start < len(order):
        n_rows = max(1, max_tokens // max(1, int(by_row[order[start]])))
        batches.append(order[start : start + n_rows].tolist())
        start += n_rows
    return batches


def _pad(
    rows: Sequence[Mapping[str, Any]], name: str, value: float, dtype: torch.dtype, width: int
) -> Tensor:
    tensors = [torch.as_tensor(row[name], dtype=dtype) for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)
    return torch.nn.functional.pad(padded, (0, max(0, width - padded.shape[1])), value=value)
