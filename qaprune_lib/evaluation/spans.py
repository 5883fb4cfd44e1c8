"""The best answer spans of all questions at once, in numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qaprune_lib.errors import DataError, ModelError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class ScoredWindows:
    """Windows with what a model says of them, those of a question side by side and in order.

    question, size, null: [windows], size in context tokens, null = start[0] + end[0];
    start, end (logits, float64), token_start, token_end (places): [all context tokens].
    """

    question: np.ndarray
    size: np.ndarray
    null: np.ndarray
    start: np.ndarray
    end: np.ndarray
    token_start: np.ndarray
    token_end: np.ndarray


def read_windows(
    table: pa.Table,
    question: np.ndarray,
    logits: Sequence[Sequence[np.ndarray]],
    places: tuple[str, str],
    name: Callable[[int], str],
) -> ScoredWindows:
    """Take from windows and the logits of each what the search needs.

    Args:
        table: windows, those of a question side by side.
        question: the number of each window's question.
        logits: start and end, of each window; beyond a window's length they are left out.
        places: the columns of the tokens' first and last places.
        name: what messages call a question.

    Raises:
        DataError: a window without context.
        ModelError: a logit that is missing or not finite, naming the question.
    """
    if len(logits) < len(table):
        raise ModelError(f"{name(question[len(logits)])}: there are no logits for its window")
    # Arrow's own arrays: lists of Python numbers take longer than the span search.
    first, length, token_start, token_end = (
        table.column(column).combine_chunks() for column in ("context_start", "length", *places)
    )
    size = token_start.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    if not size.all():
        raise DataError(f"{name(question[size.argmin()])} has a window without context")
    for owner, row, needed in zip(question, logits, length.to_pylist(), strict=True):
        if min(len(row[0]), len(row[1])) < needed:
            raise ModelError(
                f"{name(owner)}: a window of {needed} tokens has {len(row[0])} start and "
                f"{len(row[1])} end logits"
            )
    null = np.array([(row[0][0], row[1][0]) for row in logits], np.float64)
    cut = list(zip(first.to_numpy(), first.to_numpy() + size, strict=True))
    context = [
        np.concatenate(
            [row[side][a:b] for row, (a, b) in zip(logits, cut, strict=True)], dtype=np.float64
        )
        for side in (0, 1)
    ]
    for owner, finite in (
        (question, np.isfinite(null).all(axis=1)),
        (np.repeat(question, size), np.isfinite(context).all(axis=0)),
    ):
        if not finite.all():
            raise ModelError(f"{name(owner[finite.argmin()])}: a logit is not finite")
    return ScoredWindows(
        question=question,
        size=size,
        null=null.sum(axis=1),
        start=context[0],
        end=context[1],
        token_start=token_start.flatten().to_numpy(),
        token_end=token_end.flatten().to_numpy(),
    )


def best_spans(windows: ScoredWindows, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and last context token of each question's best span, and its score: [questions].

    All contexts lie in one line, with width - 1 places of -inf between two of them, so that no
    span reaches from one into the next and a question's first maximum is its earliest span. The
    search is for spans of at most `width` tokens, or of the longest window where that is shorter.
    """
    width = min(width, int(windows.size.max()))
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
