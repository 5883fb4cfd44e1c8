"""A number with its spread, and what it says against the line that a claim draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Draws = NDArray[np.float64]

LEVEL = 95
"""The percentage of the draws that an interval holds."""

MARGIN = 3.0
"""F1 points above answering nothing from which on a model bears a verdict."""

F1, POINTS = "F1 points", "percentage points"
Bound = Literal["at least", "at most"]
Verdict = Literal["holds", "does not hold", "not at our budget", "undecided", "not tested"]


@dataclass(frozen=True)
class Finding:
    """One measured effect against the line that the claim draws.

    The claim says that the effect is above `line`, below it, or, with `upper`, between the two.

    Attributes:
        label: what was measured.
        value, unit: the effect.
        low, high: its 95% interval, for times the range over rounds; None if one run alone gives
            the number, so that its spread is not known.
        bound: a curve ended too early: the effect is "at least", or "at most", what is measured.
        questions, seeds: what it rests on, the seeds being of gates or of random's draws; None if
            it rests on none.
        gates, retraining: how much its models were trained, as a share of the paper's training.
        above_floor: the fewest F1 points that one of its models is above answering nothing.
    """

    label: str
    value: float
    unit: str
    low: float | None
    high: float | None
    relation: Literal["above", "below", "within"]
    line: float
    upper: float | None = None
    bound: Bound | None = None
    questions: int | None = None
    seeds: int | None = None
    gates: float | None = None
    retraining: float | None = None
    above_floor: float | None = None

    @property
    def at_floor(self) -> bool:
        """Whether a model that it rests on does hardly better than to answer nothing."""
        return self.above_floor is not None and self.above_floor < MARGIN

    @property
    def verdict(self) -> Verdict:
        """Holds with the whole interval on the claimed side, not with all of it on the other."""
        if self.low is None or self.high is None or self.at_floor:
            return "undecided"
        low = -inf if self.bound == "at most" else self.low
        high = inf if self.bound == "at least" else self.high
        if self.relation == "above":
            inside, outside = low > self.line, high <= self.line
        elif self.relation == "below":
            inside, outside = high < self.line, low >= self.line
        else:
            assert self.upper is not None
            inside = self.line <= low and high <= self.upper
            outside = high < self.line or low > self.upper
        return "holds" if inside else "does not hold" if outside else "undecided"


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number and what the bootstrap makes of it; sums and differences are taken draw by draw.

    Attributes:
        value: as measured.
        draws: [DRAWS], the same number resampled; NaN if there is nothing to resample.
        basis: by name how much of what it rests on, as `Finding` lists it; of several the least.
        tests: of so many, one is enough for the claim: intervals are wider (Bonferroni).
    """

    value: float
    draws: Draws
    basis: Mapping[str, Any] = field(default_factory=dict)
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
        bases = self.basis, other.basis
        least = {n: min(b[n] for b in bases if n in b) for n in {**bases[0], **bases[1]}}
        return Estimate(self.value + other.value, self.draws + other.draws, least)

    def __mul__(self, factor: float) -> Estimate:
        return replace(self, value=factor * self.value, draws=factor * self.draws)

    __rmul__ = __mul__

    def __sub__(self, other: Estimate) -> Estimate:
        return self + -1 * other

    def __str__(self) -> str:
        if (interval := self.interval) is None:
            return number(self.value)
        return f"{number(self.value)} ({number(interval[0])} to {number(interval[1])})"

    def above(self, line: float, unit: str, label: str, bound: Bound | None = None) -> Finding:
        """The claim says that this is above the line; `bound` as of `Finding`."""
        return self._finding(unit, label, relation="above", line=line, bound=bound)

    def below(self, line: float, unit: str, label: str, bound: Bound | None = None) -> Finding:
        """The claim says that this is below the line; `bound` as of `Finding`."""
        return self._finding(unit, label, relation="below", line=line, bound=bound)

    def within(self, line: float, upper: float, unit: str, label: str) -> Finding:
        """A claim of equivalence: this lies between two lines.

        It holds if the whole interval does (a two one-sided test at 2.5% each), and does not hold
        if none of the interval does.
        """
        return self._finding(unit, label, relation="within", line=line, upper=upper)

    def _finding(self, unit: str, label: str, **more: Any) -> Finding:
        low, high = self.interval or (None, None)
        given = {"low": low, "high": high, **self.basis, **more}
        return Finding(label=label, value=self.value, unit=unit, **given)


def number(value: float, digits: int = 1) -> str:
    """A number as it is printed: rounded, with a minus sign, and never "-0.0"."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")
