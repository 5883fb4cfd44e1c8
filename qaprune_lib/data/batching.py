"""Batches of windows: of like lengths, padded to the longest row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qaprune_lib.errors import SettingsError

MEGABATCH = 50  # global batches that are sorted by length together
LABELS = ("start_position", "end_position", "answer_type")
"""Columns of windows that a model learns; in a batch their names are plural."""


def collate(
    rows: Sequence[Mapping[str, Any]], *, pad_token_id: int, token_type_ids: bool = True
) -> dict[str, Tensor]:
    """Pad rows of `make_features`, or of Natural Questions, on the right to the longest one.

    Args:
        rows: windows; columns that a model does not take are left out.
        pad_token_id: fills ``input_ids``.
        token_type_ids: whether the model takes them.

    Returns:
        ``input_ids`` and ``attention_mask`` (1 at real tokens), [batch, length] int64;
        ``token_type_ids`` if asked for; ``start_positions``, ``end_positions`` and
        ``answer_types``, [batch] int64, where the rows have such labels; every column whose name
        ends in ``_logits``, [batch, length] (or [batch, n_classes]) float32, its padding at the
        dtype's minimum.
    """
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    batch = {
        "input_ids": _pad(rows, "input_ids", pad_token_id, torch.int64),
        "attention_mask": (torch.arange(int(lengths.max())) < lengths[:, None]).long(),
    }
    if token_type_ids:
        batch["token_type_ids"] = _pad(rows, "token_type_ids", 0, torch.int64)
    for label in LABELS:
        if label in rows[0]:
            batch[f"{label}s"] = torch.tensor([int(row[label]) for row in rows])
    for name in rows[0]:
        if name.endswith("_logits"):
            minimum = torch.finfo(torch.float32).min
            batch[name] = _pad(rows, name, minimum, torch.float32)
    return batch


@dataclass(frozen=True)
class Collator:
    """`collate` with its settings, for a `DataLoader` or a `Trainer`."""

    pad_token_id: int
    token_type_ids: bool

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Pad rows of `make_features` to the longest one."""
        return collate(rows, pad_token_id=self.pad_token_id, token_type_ids=self.token_type_ids)


def length_grouped_order(
    lengths: Sequence[int], global_batch: int, *, seed: int, epoch: int
) -> list[int]:
    """A permutation of the rows whose runs of ``global_batch`` have like lengths.

    Rows are shuffled, cut into megabatches of 50 global batches, sorted by length within each,
    cut into global batches, and these are shuffled. An incomplete batch stays last. The order
    depends on the arguments alone, so that a resumed run meets the same batches.
    """
    if global_batch < 1:
        raise SettingsError(f"global_batch={global_batch} must be at least 1")
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


def batches_by_tokens(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Rows sorted by length, the longest first, in batches of at most ``max_tokens`` positions.

    Padding counts; a row longer than ``max_tokens`` makes a batch by itself.
    """
    if max_tokens < 1:
        raise SettingsError(f"max_tokens={max_tokens} must be at least 1")
    return list(_token_batches(np.asarray(lengths), max_tokens))


def _token_batches(lengths: np.ndarray, max_tokens: int) -> Iterator[list[int]]:
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        n_rows = max(1, max_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + n_rows].tolist()
        start += n_rows


def _pad(rows: Sequence[Mapping[str, Any]], name: str, value: float, dtype: torch.dtype) -> Tensor:
    tensors = [torch.as_tensor(row[name], dtype=dtype) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)
