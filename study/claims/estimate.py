"""A number with its spread, from a paired bootstrap, and what it says against a claim's line.

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
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import inf
from typing import Any, Literal

import numpy as np

from qaprune_lib.errors import RecordError
from study.names import number
from study.records.record import Record

DRAWS, LEVEL = 4000, 95
"""Draws of each bootstrap, and the percentage of them that an interval holds."""

MARGIN = 3.0
"""F1 points above answering nothing from which on a model bears a verdict."""

F1, POINTS = "F1 points", "percentage points"
Bound = Literal["at least", "at most"] | None
Relation = Literal["above", "below", "within"]
Verdict = Literal["holds", "does not hold", "not at our budget", "undecided", "not tested"]
Basis = Mapping[str, Any]
"""What a number rests on, of several the least, where it applies: `questions`; `seeds`, of gates or
of random's draws; `gates` and `retraining`, how much its models were trained as a share of the
paper's training; `above_floor`, the F1 points that they are above answering nothing; `runs`, all
records' ids."""

Articles = Sequence[Sequence[float]]
"""For each article its number of questions and their summed F1, in percent points. On Natural
Questions the first number counts the answers given and due, which depend on the model, and a third
one the questions."""


@dataclass(frozen=True)
class Finding:
    """One measured effect against the line that the claim draws.

    Attributes:
        low, high: its 95% interval, for times the range over rounds; None if one run gives it.
        relation, line, upper: it is claimed to be above the line, below it, or between the two.
        bound: a curve ended too early: the effect is "at least", or "at most", what is measured.
    """

    label: str
    value: float
    unit: str
    low: float | None
    high: float | None
    basis: Basis
    relation: Relation
    line: float
    upper: float | None = None
    bound: Bound = None

    @property
    def at_floor(self) -> bool:
        """Whether a model that it rests on does hardly better than to answer nothing."""
        return bool(self.basis.get("above_floor", inf) < MARGIN)

    @property
    def verdict(self) -> Verdict:
        """Holds with the whole interval on the claimed side, not with all of it on the other."""
        if self.low is None or self.high is None or self.at_floor:
            return "undecided"
        low = -inf if self.bound == "at most" else self.low
        high = inf if self.bound == "at least" else self.high
        upper = inf if self.upper is None else self.upper
        inside, outside = {
            "above": (low > self.line, high <= self.line),
            "below": (high < self.line, low >= self.line),
            "within": (self.line <= low and high <= upper, high < self.line or low > upper),
        }[self.relation]
        return "holds" if inside else "does not hold" if outside else "undecided"


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number and what the bootstrap makes of it; sums and differences are taken draw by draw.

    Attributes:
        draws: [DRAWS], the same number resampled; NaN if there is nothing to resample.
        basis: what it rests on.
        tests: of so many, one is enough for the claim: intervals are wider (Bonferroni).
    """

    value: float
    draws: np.ndarray
    basis: Basis = field(default_factory=dict)
    tests: int = 1

    @property
    def interval(self) -> tuple[float, float] | None:
        """The middle `LEVEL` percent of the draws; None if there is nothing to resample."""
        if np.isnan(self.draws).any():
            return None
        outside = (100 - LEVEL) / 2 / self.tests
        low, high = np.percentile(self.draws, [outside, 100 - outside])
        return float(low), float(high)

    def __add__(self, other: Estimate) -> Estimate:
        one, two = self.basis, other.basis
        least = {n: min(one.get(n, inf), two.get(n, inf)) for n in {**one, **two} if n != "runs"}
        runs = one.get("runs", frozenset()) | two.get("runs", frozenset())
        least |= {"runs": runs} if runs else {}
        return Estimate(self.value + other.value, self.draws + other.draws, least)

    def __mul__(self, factor: float) -> Estimate:
        return replace(self, value=factor * self.value, draws=factor * self.draws)

    __rmul__ = __mul__

    def __sub__(self, other: Estimate) -> Estimate:
        return self + -1 * other

    def __str__(self) -> str:
        low_high = (
            "" if self.interval is None else " ({} to {})".format(*map(number, self.interval))
        )
        return f"{number(self.value)}{low_high}"

    def above(self, line: float, unit: str, label: str, bound: Bound = None) -> Finding:
        """The claim says that this is above the line."""
        return self._against(label, unit, "above", line, None, bound)

    def below(self, line: float, unit: str, label: str, bound: Bound = None) -> Finding:
        """The claim says that this is below the line."""
        return self._against(label, unit, "below", line, None, bound)

    def within(self, line: float, upper: float, unit: str, label: str) -> Finding:
        """The claim says that this lies between two lines: a two one-sided test at 2.5% each."""
        return self._against(label, unit, "within", line, upper)

    def _against(self, label: str, unit: str, *line: Any) -> Finding:
        low, high = self.interval or (None, None)
        return Finding(label, self.value, unit, low, high, self.basis, *line)


def mean_f1(runs: Sequence[Articles], basis: Basis | None = None) -> Estimate:
    """F1 in percent, the mean over runs on the same articles that differ in their seed only."""
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


def mean_of(values: Iterable[float], basis: Basis | None = None) -> Estimate:
    """The mean of one number over runs, resampled; one run alone has no spread (NaN)."""
    numbers = np.array(list(values), dtype=float)
    repeated = np.repeat(numbers[:, None], DRAWS, axis=1)
    draws = _over_runs(repeated) if len(numbers) > 1 else np.full(DRAWS, np.nan)
    return Estimate(float(numbers.mean()), draws, basis or {})


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of estimates, draw by draw."""
    return sum(estimates[1:], estimates[0]) * (1 / len(estimates))


def over_rounds(value: float, rounds: Sequence[float], *runs: str) -> Estimate:
    """A number of timings: its interval is its range over the rounds of the measurement."""
    draws = np.resize(np.array(rounds, dtype=float), DRAWS)
    return Estimate(value, draws, {"runs": frozenset(runs)})


def exact(value: float, *runs: Record) -> Estimate:
    """A number without spread, such as a count."""
    return over_rounds(value, [value], *(run.id for run in runs))


def rests_on(*runs: Record) -> Basis:
    """These records alone."""
    return {"runs": frozenset(run.id for run in runs)}


def standard_deviation(values: Iterable[float], basis: Basis | None = None) -> Estimate:
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
def _article_weights(questions: tuple[float, ...]) -> np.ndarray:
    """[DRAWS, n_articles], how often each article is drawn; the same for the same articles."""
    n = len(questions)
    if n < 2:
        return np.full((DRAWS, n), np.nan)
    generator = _generator(np.array(questions, dtype=float))
    return generator.multinomial(n - 1, [1 / n] * n, size=DRAWS).astype(float)


def _over_runs(scores: np.ndarray) -> np.ndarray:
    """[n_runs, DRAWS] to [DRAWS]: the mean over n_runs − 1 runs, drawn anew for each draw."""
    n = len(scores)
    picked = _generator(scores).integers(n, size=(max(n - 1, 1), DRAWS))
    return np.take_along_axis(scores, picked, axis=0).mean(axis=0)


def _generator(data: np.ndarray) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(np.ascontiguousarray(data).tobytes()))
