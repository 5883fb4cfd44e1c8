"""Estimates with their spread: a paired bootstrap over articles and over seeds.

Questions about one article share its text, so articles are drawn, not questions: a draw gives
every article a multinomial weight w, and F1 = Σ w·(summed F1) / Σ w·(questions). Models scored on
the same articles get the same weights, so that differences between them are paired. Where a number
is a mean over seeds, each draw picks seeds too. Of n articles or seeds n − 1 are drawn: with n the
spread would come out too small by √((n − 1)/n), which matters for five seeds (Rao and Wu, 1988).

Every number is reproducible: the generators are seeded by the data that they resample.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from qaprune_lib.errors import RecordError
from study.claims.estimate import Estimate

if TYPE_CHECKING:
    from study.claims.estimate import Draws

DRAWS = 4000
"""Draws of each bootstrap."""

Articles = Sequence[Sequence[float]]
"""For each article its number of questions and their summed F1, in percent points.

On Natural Questions the first number counts the answers given and due, which depend on the model,
and a third one the questions.
"""


def mean_f1(runs: Sequence[Articles], basis: Mapping[str, float] | None = None) -> Estimate:
    """F1 in percent, the mean over runs that differ in their seed only.

    Args:
        runs: one list of articles a run, all with the same articles in the same order.
        basis: of the estimate, beside the number of questions.

    Raises:
        RecordError: no run, or runs that were scored on different articles.
    """
    # the number of questions is an article's first number, on Natural Questions its third
    questions = {tuple(article[2 if len(article) > 2 else 0] for article in run) for run in runs}
    if len(questions) != 1:
        raise RecordError("F1 can be averaged over runs on the same articles only")
    (same,) = questions
    counts, summed = np.moveaxis(np.array(runs, dtype=float)[..., :2], 2, 0)
    weights = _article_weights(same)
    scores = (summed @ weights.T) / (counts @ weights.T)
    value = float((summed.sum(axis=1) / counts.sum(axis=1)).mean())
    return Estimate(value, _over_runs(scores), {**(basis or {}), "questions": int(sum(same))})


def mean_of(values: Iterable[float], basis: Mapping[str, float] | None = None) -> Estimate:
    """The mean of one number over runs, resampled; one run alone has no spread (NaN)."""
    numbers = np.array(list(values), dtype=float)
    repeated = np.repeat(numbers[:, None], DRAWS, axis=1)
    draws = _over_runs(repeated) if len(numbers) > 1 else np.full(DRAWS, np.nan)
    return Estimate(float(numbers.mean()), draws, basis or {})


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of estimates, draw by draw."""
    return sum(estimates[1:], estimates[0]) * (1 / len(estimates))


def over_rounds(value: float, rounds: Sequence[float]) -> Estimate:
    """A number of timings: its interval is its range over the rounds of the measurement."""
    return Estimate(value, np.resize(np.array(rounds, dtype=float), DRAWS))


def exact(value: float) -> Estimate:
    """A number without spread, such as a count."""
    return over_rounds(value, [value])


def standard_deviation(
    values: Iterable[float], basis: Mapping[str, float] | None = None
) -> Estimate:
    """The standard deviation over runs (n − 1 below the fraction line).

    Its spread is that of normal values: (n − 1)·s²/σ² follows χ² with n − 1 degrees of freedom. A
    bootstrap of five values would make it far too small.
    """
    numbers = np.array(list(values), dtype=float)
    if len(numbers) < 2:
        raise RecordError("a standard deviation needs two runs at least")
    deviation, freedom = float(numbers.std(ddof=1)), len(numbers) - 1
    ratio = np.sqrt(freedom / _generator(numbers).chisquare(freedom, DRAWS))
    return Estimate(deviation, deviation * ratio, basis or {})


@lru_cache(maxsize=64)
def _article_weights(questions: tuple[float, ...]) -> Draws:
    """[DRAWS, n_articles], how often each article is drawn; the same for the same articles."""
    n = len(questions)
    if n < 2:
        return np.full((DRAWS, n), np.nan)
    generator = _generator(np.array(questions, dtype=float))
    return generator.multinomial(n - 1, [1 / n] * n, size=DRAWS).astype(float)


def _over_runs(scores: Draws) -> Draws:
    """[n_runs, DRAWS] to [DRAWS]: the mean over n_runs − 1 runs, drawn anew for each draw."""
    n = len(scores)
    if n == 1:
        return scores[0]
    picked = _generator(scores).integers(n, size=(n - 1, DRAWS))
    mean: Draws = np.take_along_axis(scores, picked, axis=0).mean(axis=0)
    return mean


def _generator(data: Draws) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(np.ascontiguousarray(data).tobytes()))
