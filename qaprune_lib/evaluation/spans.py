"""The best answer spans of all questions at once, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qaprune_lib.errors import DataError, ModelError

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Windows:
    """All windows, those of a question side by side and in order.

    question, size, null: [windows], size in context tokens, null = start[0] + end[0];
    start, end (logits, float64), token_start, token_end (characters): [all context tokens].
    """

    question: np.ndarray
    size: np.ndarray
    null: np.ndarray
    start: np.ndarray
    end: np.ndarray
    token_start: np.ndarray
    token_end: np.ndarray


def read_windows(
    features: Dataset,
    start_logits: Sequence[np.ndarray],
    end_logits: Sequence[np.ndarray],
    ids: list[str],
) -> Windows:
    """Take from `features` and the logits of each window what the search needs.

    Logits beyond a window's length are left out. `ids` are the questions' ids, by row. Raises
    DataError where windows and questions do not belong together, ModelError naming the question
    where a logit is missing or not finite.
    """
    if not len(features) == len(start_logits) == len(end_logits):
        raise ModelError(
            f"{len(features)} windows, but start logits for {len(start_logits)} and end logits "
            f"for {len(end_logits)}"
        )
    question = np.asarray(features["example_index"], dtype=np.int64)
    absent = np.setdiff1d(np.arange(len(ids)), question)
    if len(absent):
        raise DataError(f"question {ids[absent[0]]!r} has no window ({len(absent)} such)")
    if len(question) and not 0 <= question.min() <= question.max() < len(ids):
        raise DataError("there are windows of questions that are not in the data set")
    order = np.argsort(question, kind="stable")
    question = question[order]
    columns = ["context_start", "length", "token_start", "token_end"]
    # Arrow's own arrays: lists of Python numbers take longer than the span search.
    table = features.select(order).select_columns(columns).with_format("arrow")[:]
    first, length, token_start, token_end = (table.column(c).combine_chunks() for c in columns)
    size = token_start.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    if not size.all():
        raise DataError(f"question {ids[question[size.argmin()]]!r} has a window without context")

    rows = [[logits[i] for i in order] for logits in (start_logits, end_logits)]
    for at, needed in enumerate(length.to_pylist()):
        if min(len(rows[0][at]), len(rows[1][at])) < needed:
            raise ModelError(
                f"question {ids[question[at]]!r}: a window of {needed} tokens has "
                f"{len(rows[0][at])} start and {len(rows[1][at])} end logits"
            )
    null = np.array([(start[0], end[0]) for start, end in zip(*rows, strict=True)], np.float64)
    cut = list(zip(first.to_numpy(), first.to_numpy() + size, strict=True))
    context = [
        np.concatenate([row[a:b] for row, (a, b) in zip(side, cut, strict=True)], dtype=np.float64)
        for side in rows
    ]
    for owner, finite in (
        (question, np.isfinite(null).all(axis=1)),
        (np.repeat(question, size), np.isfinite(context).all(axis=0)),
    ):
        if not finite.all():
            name = ids[owner[finite.argmin()]]
            raise ModelError(f"question {name!r} has a logit that is not finite")
    return Windows(
        question=question,
        size=size,
        null=null.sum(axis=1),
        start=context[0],
        end=context[1],
        token_start=token_start.flatten().to_numpy(),
        token_end=token_end.flatten().to_numpy(),
    )


def best_spans(windows: Windows, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and last context token of each question's best span, and its score: [questions].

    All contexts lie in one line, with width - 1 places of -inf between two of them, so that no
    span reaches from one into the next and a question's first maximum is its earliest span.
    """
    window = np.repeat(np.arange(len(windows.size)), windows.size)
    place = np.arange(len(window)) + window * (width - 1)
    start, end = np.full((2, place[-1] + width), -np.inf)
    start[place], end[place] = windows.start, windows.end
    score = start[: place[-1] + 1] + _sliding_max(end, width)
    begin = place[group_starts(windows.question[window])]
    best_score = np.maximum.reduceat(score, begin)
    hits = np.flatnonzero(score == np.repeat(best_score, np.diff(begin, append=len(score))))
    best = hits[np.searchsorted(hits, begin)]
    length = np.argmax(start[best, None] + end[best[:, None] + np.arange(width)], axis=1)
    first = np.searchsorted(place, best)
    return first, first + length, best_score


def _sliding_max(values: np.ndarray, width: int) -> np.ndarray:
    """The largest of each `width` neighbours: [n] to [n - width + 1], doubling the reach."""
    reach = 1
    while reach < width:
        step = min(reach, width - reach)
        values = np.maximum(values[:-step], values[step:])
        reach += step
    return values


def group_starts(sorted_keys: np.ndarray) -> np.ndarray:
    """Where each run of equal keys begins, for ``reduceat``; keys are not negative."""
    return np.flatnonzero(np.diff(sorted_keys, prepend=-1))
