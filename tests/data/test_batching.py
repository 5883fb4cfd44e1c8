from __future__ import annotations

import pickle
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qaprune_lib.data.batching import (
    MEGABATCH,
    Collator,
    batches_by_tokens,
    length_grouped_order,
)
from qaprune_lib.errors import SettingsError
from tests.quick import at_most

LENGTHS = st.lists(st.integers(1, 400), max_size=300)


def window(length: int, **columns: Any) -> dict[str, Any]:
    return {
        "input_ids": list(range(5, 5 + length)),
        "token_type_ids": [0, *[1] * (length - 1)],
        "example_index": 3,
        **columns,
    }


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5))
@settings(max_examples=at_most(30), deadline=None)
def test_each_row_is_kept_and_the_rest_is_padding(lengths: list[int]) -> None:
    rows = [
        window(length, start_position=1, end_position=2, teacher_start_logits=[0.5] * length)
        for length in lengths
    ]
    batch = Collator(pad_token_id=77, token_type_ids=True)(rows)
    longest = max(lengths)
    minimum = torch.finfo(torch.float32).min
    for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        n_padding = longest - length
        assert batch["input_ids"][index].tolist() == row["input_ids"] + [77] * n_padding
        assert batch["attention_mask"][index].tolist() == [1] * length + [0] * n_padding
        assert batch["token_type_ids"][index].tolist() == row["token_type_ids"] + [0] * n_padding
        logits = batch["teacher_start_logits"][index].tolist()
        assert logits == [0.5] * length + [minimum] * n_padding
    assert batch["start_positions"].tolist() == [1] * len(lengths)
    assert batch["end_positions"].tolist() == [2] * len(lengths)
    integers = batch.keys() - {"teacher_start_logits"}
    assert {batch[name].dtype for name in integers} == {torch.int64}
    assert batch["teacher_start_logits"].dtype == torch.float32
    assert "example_index" not in batch


def test_labels_and_token_types_are_left_out_where_there_are_none() -> None:
    collator: Collator = pickle.loads(pickle.dumps(Collator(pad_token_id=1, token_type_ids=False)))  # noqa: S301
    assert set(collator([window(3), window(2)])) == {"input_ids", "attention_mask"}


def test_arrays_and_tensors_are_taken_as_lists_are() -> None:
    plain = [window(4), window(2)]
    kinds = (np.array, torch.tensor)
    for kind in kinds:
        rows: list[Mapping[str, Any]] = [
            {
                **row,
                "input_ids": kind(row["input_ids"]),
                "token_type_ids": kind(row["token_type_ids"]),
            }
            for row in plain
        ]
        batch = Collator(0, token_type_ids=True)(rows)
        for name, value in Collator(0, token_type_ids=True)(plain).items():
            assert torch.equal(batch[name], value)


@given(lengths=LENGTHS, batch=st.integers(1, 7), seed=st.integers(0, 9), epoch=st.integers(0, 9))
@settings(max_examples=at_most(60), deadline=None)
def test_order_is_a_permutation_with_like_lengths_in_each_batch(
    lengths: list[int], batch: int, seed: int, epoch: int
) -> None:
    order = length_grouped_order(lengths, batch, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(len(lengths)))
    assert order == length_grouped_order(lengths, batch, seed=seed, epoch=epoch)
    n_full = len(lengths) // batch
    ranges = [
        sorted(lengths[row] for row in order[start : start + batch])
        for start in range(0, n_full * batch, batch)
    ]
    if n_full <= MEGABATCH:
        # All full batches come from one sorted list: their ranges do not overlap.
        ranges.sort()
        assert all(left[-1] <= right[0] for left, right in pairwise(ranges))


def test_order_changes_with_seed_and_epoch() -> None:
    lengths = list(range(100))
    orders = {
        tuple(length_grouped_order(lengths, 4, seed=seed, epoch=epoch))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_grouping_saves_padding_and_mixes_megabatches() -> None:
    lengths = np.random.default_rng(0).integers(20, 384, size=9000).tolist()

    def padded(order: list[int]) -> int:
        return sum(
            24 * max(lengths[row] for row in order[start : start + 24])
            for start in range(0, len(order), 24)
        )

    order = length_grouped_order(lengths, 24, seed=0, epoch=0)
    assert padded(order) < 1.05 * sum(lengths) < padded(list(range(9000)))
    firsts = [lengths[row] for row in order[::24]]
    assert np.corrcoef(firsts[:-1], firsts[1:])[0, 1] < 0.3


@given(lengths=LENGTHS, max_tokens=st.integers(1, 2000))
@settings(max_examples=at_most(60), deadline=None)
def test_inference_batches_hold_every_row_once_within_the_limit(
    lengths: list[int], max_tokens: int
) -> None:
    batches = batches_by_tokens(lengths, max_tokens)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    flat = [lengths[row] for batch in batches for row in batch]
    assert flat == sorted(flat, reverse=True)
    for position, batch in enumerate(batches):
        longest = max(lengths[row] for row in batch)
        assert len(batch) == 1 or longest * len(batch) <= max_tokens
        if position + 1 < len(batches):  # no batch could have taken one row more
            assert longest * (len(batch) + 1) > max_tokens


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(SettingsError, match="global_batch=0"):
        length_grouped_order([1], 0, seed=0, epoch=0)
    with pytest.raises(SettingsError, match="max_tokens=0"):
        batches_by_tokens([1], 0)


def test_batches_of_few_lengths_hold_the_same_values() -> None:
    rows = [
        {
            "input_ids": list(range(5, 5 + length)),
            "token_type_ids": [1] * length,
            "start_position": 1,
            "teacher_start_logits": np.arange(length, dtype=np.float32),
            "teacher_answer_type_logits": np.arange(5, dtype=np.float32),
        }
        for length in (3, 7)
    ]
    plain = Collator(77, token_type_ids=True)(rows)
    for longest, width in ((100, 16), (12, 12), (0, 7)):
        batch = Collator(77, token_type_ids=True, multiple_of=16, longest=longest)(rows)
        for name, values in plain.items():
            of_tokens = values.dim() == 2 and name != "teacher_answer_type_logits"
            assert batch[name].shape == ((2, width) if of_tokens else values.shape)
            assert torch.equal(batch[name][..., : values.shape[-1]], values)
        rest = slice(7, None)
        assert not batch["attention_mask"][:, rest].any()
        assert (batch["input_ids"][:, rest] == 77).all()
        assert (batch["teacher_start_logits"][:, rest] == torch.finfo(torch.float32).min).all()
