"""The best few answers to a question, beside the best one, with probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qaprune_lib.evaluation.spans import ScoredWindows, group_starts


@dataclass(frozen=True)
class RankedSpan:
    """One of several answers; text, start, end and score as in `Prediction`.

    probability: of this answer among those that are listed and "no answer", whose score is the null
        score: the softmax of their scores, as in BERT's ``nbest_predictions.json``.
    """

    text: str
    start: int
    end: int
    score: float
    probability: float


def top_spans(
    windows: ScoredWindows, width: int, n_best: int
) -> list[list[tuple[float, int, int]]]:
    """Of each question the spans of the highest scores: score, first and last place.

    At most `n_best` of each window, no two at the same places; `width` is the longest in tokens.
    """
    begins = np.cumsum(windows.size)[:-1]
    sides = (windows.start, windows.end, windows.token_start, windows.token_end)
    by_window = zip(*(np.split(side, begins) for side in sides), strict=True)
    of_window = [_top(*parts, width=width, n_best=n_best) for parts in by_window]
    groups = np.split(np.arange(len(of_window)), group_starts(windows.question)[1:])
    return [[span for window in group for span in of_window[window]] for group in groups]


def rank(
    context: str, spans: Iterable[tuple[float, int, int]], null_score: float, n_best: int
) -> tuple[RankedSpan, ...]:
    """The best of spans that may come from several windows, the best first."""
    best: dict[tuple[int, int], float] = {}
    for score, start, end in sorted(spans, key=lambda span: -span[0]):  # stable: earliest first
        if len(best) < n_best:
            best.setdefault((start, end), score)
    scores = np.array([*best.values(), null_score])
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    return tuple(
        RankedSpan(context[start:end], start, end, score, share)
        for ((start, end), score), share in zip(best.items(), shares.tolist(), strict=False)
    )


def _top(
    start: np.ndarray,
    end: np.ndarray,
    token_start: np.ndarray,
    token_end: np.ndarray,
    *,
    width: int,
    n_best: int,
) -> list[tuple[float, int, int]]:
    width = min(width, len(start))
    padded = np.append(end, np.full(width - 1, -math.inf))
    scores = (start[:, None] + np.lib.stride_tricks.sliding_window_view(padded, width)).ravel()
    kept = n_best
    while True:  # tokens of one character share its place, so that more must be looked at
        kept = min(2 * kept, len(scores))
        least = np.partition(scores, -kept)[-kept]
        found = np.flatnonzero((scores >= least) & np.isfinite(scores))
        found = found[np.argsort(-scores[found], kind="stable")]
        spans: dict[tuple[int, int], float] = {}
        for at in found.tolist():
            first, length = divmod(at, width)
            place = int(token_start[first]), int(token_end[first + length])
            spans.setdefault(place, float(scores[at]))
        if len(spans) >= n_best or kept == len(scores):
            return [(score, *place) for place, score in spans.items()][:n_best]
