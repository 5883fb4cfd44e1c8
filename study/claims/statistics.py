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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from qaprune_lib.errors import RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Draws = NDArray[np.float64]

DRAWS = 4000
LEVEL = 95
"""Draws of each bootstrap, and the percentage of them that an interval holds."""

Articles = Sequence[Sequence[float]]
"""For each article its number of questions and their summed F1, in percent points.

On Natural Questions the first number counts the answers given and due, which depend on the model,
and a third one the questions.
"""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number and what the bootstrap makes of it; sums and differences are taken draw by draw.

    Attributes:
        value: as measured.
        draws: [DRAWS], the same number resampled; NaN if there is nothing to resample.
        questions: how many it rests on; None if on none.
        seeds: of gates, or of random's draw; None if no seed enters.
    """

    value: float
    draws: Draws
    questions: int | None = None
    seeds: int | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The middle `LEVEL` percent of the draws; None if there is nothing to resample."""
        if np.isnan(self.draws).any():
            return None
        outside = (100 - LEVEL) / 2
        low, high = np.percentile(self.draws, [outside, 100 - outside])
        return float(low), float(high)

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.value + other.value,
            self.draws + other.draws,
            _fewest(self.questions, other.questions),
            _fewest(self.seeds, other.seeds),
        )

    def __mul__(self, factor: float) -> Estimate:
        return Estimate(factor * self.value, factor * self.draws, self.questions, self.seeds)

    __rmul__ = __mul__

    def __neg__(self) -> Estimate:
        return -1 * self

    def __sub__(self, other: Estimate) -> Estimate:
        return self + -other

    def __str__(self) -> str:
        if self.interval is None:
            return number(self.value)
        low, high = map(number, self.interval)
        return f"{number(self.value)} ({low} to {high})"


def number(value: float, digits: int = 1) -> str:
    """A number as it is printed: rounded, with a minus sign, and never "-0.0"."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def mean_f1(runs: Sequence[Articles], *, seeds: int | None = None) -> Estimate:
    """F1 in percent, the mean over runs that differ in their seed only.

    Args:
        runs: one list of articles a run, all with the same articles in the same order.
        seeds: how many seeds the runs stand for; None if none enters.

    Raises:
        RecordError: no run, or runs that were scored on different articles.
    """
    questions = {tuple(_questions(article) for article in run) for run in runs}
    if len(questions) != 1:
        raise RecordError("F1 can be averaged over runs on the same articles only")
    (same,) = questions
    counts, summed = np.moveaxis(np.array(runs, dtype=float)[..., :2], 2, 0)
    weights = _article_weights(same)
    scores = (summed @ weights.T) / (counts @ weights.T)
    value = (summed.sum(axis=1) / counts.sum(axis=1)).mean()
    return Estimate(float(value), _over_runs(scores), int(sum(same)), seeds)


def mean_of(values: Iterable[float], *, seeds: int | None = None) -> Estimate:
    """The mean of one number over runs, resampled; one run alone has no spread (NaN)."""
    numbers = np.array(list(values), dtype=float)
    repeated = np.repeat(numbers[:, None], DRAWS, axis=1)
    draws = _over_runs(repeated) if len(numbers) > 1 else np.full(DRAWS, np.nan)
    return Estimate(float(numbers.mean()), draws, None, seeds)


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of estimates, draw by draw."""
    total = estimates[0]
    for estimate in estimates[1:]:
        total = total + estimate
    return total * (1 / len(estimates))


def over_rounds(value: float, rounds: Sequence[float]) -> Estimate:
    """A number of timings: its interval is its range over the rounds of the measurement."""
    return Estimate(value, np.resize(np.array(rounds, dtype=float), DRAWS))


def exact(value: float) -> Estimate:
    """A number without spread, such as a count."""
    return Estimate(value, np.full(DRAWS, float(value)))


def standard_deviation(values: Sequence[float], *, seeds: int | None = None) -> Estimate:
    """The standard deviation over runs (n − 1 below the fraction line).

    Its spread is that of normal values: (n − 1)·s²/σ² follows χ² with n − 1 degrees of freedom. A
    bootstrap of five values would make it far too small.
    """
    numbers = np.array(values, dtype=float)
    if len(numbers) < 2:
        raise RecordError("a standard deviation needs two runs at least")
    deviation, freedom = float(numbers.std(ddof=1)), len(numbers) - 1
    ratio = np.sqrt(freedom / _generator(numbers).chisquare(freedom, DRAWS))
    return Estimate(deviation, deviation * ratio, None, seeds)


def _questions(article: Sequence[float]) -> float:
    count, _, *questions = article
    return questions[0] if questions else count


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


def _fewest(one: int | None, other: int | None) -> int | None:
    return min((n for n in (one, other) if n is not None), default=None)
