"""A number with its spread, and what it says against the line that a claim draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
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
Bound = Literal["at least", "at most"] | None
Verdict = Literal["holds", "does not hold", "not at our budget", "undecided", "not tested"]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number and what the bootstrap makes of it; sums and differences are taken draw by draw.

    Attributes:
        value: as measured.
        draws: [DRAWS], the same number resampled; NaN if there is nothing to resample.
        basis: what it rests on, of several the least, where it applies: `questions`; `seeds`, of
            gates or of random's draws; `gates` and `retraining`, how much its models were trained
            as a share of the paper's training; `above_floor`, the F1 points that they are above
            answering nothing.
        tests: of so many, one is enough for the claim: intervals are wider (Bonferroni).
    """

    value: float
    draws: Draws
    basis: Mapping[str, Any] = field(default_factory=dict)
    tests: int = 1

    @cached_property
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
        numbers = [number(each) for each in (self.value, *(self.interval or ()))]
        return "{} ({} to {})".format(*numbers) if self.interval else numbers[0]

    def above(self, line: float, unit: str, label: str, bound: Bound = None) -> Finding:
        """The claim says that this is above the line."""
        return Finding(self, "above", line, unit, label, bound=bound)

    def below(self, line: float, unit: str, label: str) -> Finding:
        """The claim says that this is below the line."""
        return Finding(self, "below", line, unit, label)

    def within(self, line: float, upper: float, unit: str, label: str) -> Finding:
        """A claim of equivalence: this lies between two lines.

        It holds if the whole interval does (a two one-sided test at 2.5% each), and does not hold
        if none of the interval does.
        """
        return Finding(self, "within", line, unit, label, upper)


@dataclass(frozen=True)
class Finding:
    """One measured effect against the line that the claim draws.

    Attributes:
        effect: what was measured; without an interval if one run alone gives it, and for times
            with the range over rounds.
        relation, line, upper: the effect is claimed to be above the line, below it, or between two.
        unit, label: of the effect.
        bound: a curve ended too early: the effect is "at least", or "at most", what is measured.
    """

    effect: Estimate
    relation: Literal["above", "below", "within"]
    line: float
    unit: str
    label: str
    upper: float | None = None
    bound: Bound = None

    @property
    def value(self) -> float:
        """The effect as measured; `low` and `high` are the ends of its interval, or None."""
        return self.effect.value

    @property
    def low(self) -> float | None:  # noqa: D102
        return self.effect.interval and self.effect.interval[0]

    @property
    def high(self) -> float | None:  # noqa: D102
        return self.effect.interval and self.effect.interval[1]

    @property
    def at_floor(self) -> bool:
        """Whether a model that it rests on does hardly better than to answer nothing."""
        return bool(self.effect.basis.get("above_floor", inf) < MARGIN)

    @property
    def verdict(self) -> Verdict:
        """Holds with the whole interval on the claimed side, not with all of it on the other."""
        if self.effect.interval is None or self.at_floor:
            return "undecided"
        low = -inf if self.bound == "at most" else self.effect.interval[0]
        high = inf if self.bound == "at least" else self.effect.interval[1]
        if self.relation == "above":
            inside, outside = low > self.line, high <= self.line
        elif self.relation == "below":
            inside, outside = high < self.line, low >= self.line
        else:
            upper = inf if self.upper is None else self.upper
            inside, outside = self.line <= low and high <= upper, high < self.line or low > upper
        return "holds" if inside else "does not hold" if outside else "undecided"


def number(value: float, digits: int = 1) -> str:
    """A number as it is printed: rounded, with a minus sign, and never "-0.0"."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")
