"""Curves of F1 with their spread: against the share removed, or against the size of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import ArrayLike

from qaprune_lib.errors import RecordError
from study.claims.estimate import Bound, Estimate, average
from study.claims.judgement import Lacking

MAX_LOSS = 5.0
"""F1 points that pruning may cost at the paper's operating point (section 4.2.3)."""


def removable(shares: ArrayLike, losses: ArrayLike, max_loss: float = MAX_LOSS) -> np.ndarray:
    """The largest share that costs less than `max_loss` F1 points, linear between the points.

    Of several crossings the last counts; a curve that ends before it loses so much gives its end.
    Shares [n_points] increase from 0, losses [..., n_points] begin with 0.

    >>> float(removable([0, 20, 60], [0, 1, 9]))
    40.0
    """
    x, y = np.asarray(shares, dtype=float), np.asarray(losses, dtype=float)
    inside = len(x) - 1 - np.argmax(y[..., ::-1] < max_loss, axis=-1)
    outside = np.minimum(inside + 1, len(x) - 1)
    start, end = (np.take_along_axis(y, i[..., None], -1)[..., 0] for i in (inside, outside))
    part = np.divide(max_loss - start, end - start, out=np.zeros_like(start), where=end > start)
    return x[inside] + part * (x[outside] - x[inside])


@dataclass(frozen=True)
class Curve:
    """F1 along strictly increasing x (for sparsity curves percent removed), linear in between."""

    x: tuple[float, ...]
    f1: tuple[Estimate, ...]

    @classmethod
    def through(cls, points: Sequence[tuple[float, Estimate]]) -> Curve:
        """A curve through (x, F1), in any order; points at one x are averaged."""
        if not points:
            raise RecordError("a curve needs a point")
        places = sorted({x for x, _ in points})
        f1 = [average([f1 for x, f1 in points if x == place]) for place in places]
        return cls(tuple(places), tuple(f1))

    @property
    def end(self) -> float:
        """The largest x that was measured."""
        return self.x[-1]

    def at(self, x: float) -> Estimate:
        """F1 at x; beyond the ends, that of the nearest end."""
        place = float(np.interp(x, self.x, range(len(self.x))))
        left, share = int(place), place % 1
        if not share:
            return self.f1[left]
        return (1 - share) * self.f1[left] + share * self.f1[left + 1]

    def loss_at(self, x: float) -> Estimate:
        """What F1 at x lacks of F1 at the first point, where nothing is removed."""
        return self.f1[0] - self.at(x)

    def mean_gap(self, other: Curve, places: Sequence[float]) -> Estimate:
        """What F1 at some x is above another curve's, their mean."""
        return average([self.at(x) - other.at(x) for x in places])

    def slope(self) -> Estimate:
        """F1 lost per 10% removed, by least squares through the origin."""
        squares = sum(x * x for x in self.x)
        slopes = [10 * x / squares * self.loss_at(x) for x in self.x if x > 0]
        return average(slopes) * len(slopes)

    def mean_f1(self, end: float) -> Estimate:
        """The area under the curve from the first point to `end`, over its width."""
        places = [*(x for x in self.x if x < end), end]
        area = np.trapezoid(_table([self.at(x) for x in places]), places)
        return self._of_all(area / (end - places[0]))

    def removable(self) -> Estimate:
        """The largest x that costs less than `MAX_LOSS` F1, in each draw; see `open_ended`."""
        return self._of_all(removable(self.x, self._losses))

    @property
    def share(self) -> str:
        """That in words."""
        return f"{'at least ' if self.open_ended else ''}{self.removable().value:.0f}%"

    @property
    def open_ended(self) -> bool:
        """Whether the curve may end before it loses `MAX_LOSS`: in over 2.5% of the draws."""
        return bool((self._losses[:, -1] < MAX_LOSS).mean() > 0.025)

    @property
    def _losses(self) -> np.ndarray:
        """[1 + DRAWS, n_points]: the measured losses, then those of each draw."""
        return _table([self.f1[0] - f1 for f1 in self.f1])

    def _of_all(self, numbers: np.ndarray) -> Estimate:
        """What the whole curve says: it may end in models that answer nothing, but not begin."""
        start = self.f1[0].basis.get("above_floor", inf)
        basis = {**average(self.f1).basis, "above_floor": start}
        return Estimate(float(numbers[0]), numbers[1:], basis)


def bound_of(more: Curve, less: Curve) -> Bound:
    """What a difference of two curves' `removable` is, if one ended too early; not of both."""
    if more.open_ended and less.open_ended:
        raise Lacking(
            f"needs runs that remove more: both curves end, at {more.end:.0f}% and "
            f"{less.end:.0f}%, before {MAX_LOSS:.0f} F1 points are lost"
        )
    return "at least" if more.open_ended else "at most" if less.open_ended else None


def _table(estimates: Sequence[Estimate]) -> np.ndarray:
    return np.column_stack([[each.value, *each.draws] for each in estimates])
