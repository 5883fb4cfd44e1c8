"""Curves of F1 with their spread: against the share removed, or against the size of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qaprune_lib.errors import RecordError
from study.claims.judgement import Lacking
from study.claims.statistics import Estimate, average

MAX_LOSS = 5.0
"""F1 points that pruning may cost at the paper's operating point (section 4.2.3)."""


@dataclass(frozen=True)
class Curve:
    """F1 along x, linear between the points.

    Attributes:
        x: strictly increasing; for sparsity curves the share removed in percent, from 0.
        f1: one estimate a point.
    """

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
        right = int(np.searchsorted(self.x, x))
        if right == 0 or right == len(self.x):
            return self.f1[min(right, len(self.x) - 1)]
        left = right - 1
        share = (x - self.x[left]) / (self.x[right] - self.x[left])
        return (1 - share) * self.f1[left] + share * self.f1[right]

    def loss_at(self, x: float) -> Estimate:
        """What F1 at x lacks of F1 at the first point, where nothing is removed."""
        return self.f1[0] - self.at(x)

    def mean_f1(self, end: float) -> Estimate:
        """The area under the curve from the first point to `end`, over its width."""
        places = [*(x for x in self.x if x < end), end]
        widths = np.diff(places) / (end - places[0])
        strips = [
            float(width) * average([self.at(left), self.at(right)])
            for width, left, right in zip(widths, places[:-1], places[1:], strict=True)
        ]
        return average(strips) * len(strips)

    def removable(self, max_loss: float = MAX_LOSS) -> Estimate:
        """The largest x that costs less than `max_loss` F1, in each draw.

        Where the curve ends before it loses so much, this is the curve's end: see `open_ended`.
        """
        losses = self._losses()
        last = losses.shape[1] - 1
        # the last point of each row that is still under the limit; the first loses nothing
        inside = last - np.argmax(losses[:, ::-1] < max_loss, axis=1)
        outside = np.minimum(inside + 1, last)
        rows = np.arange(len(losses))
        start, rise = losses[rows, inside], losses[rows, outside] - losses[rows, inside]
        share = np.divide(max_loss - start, rise, out=np.zeros_like(rise), where=rise > 0)
        x = np.array(self.x)
        found = x[inside] + share * (x[outside] - x[inside])
        worst = self.loss_at(self.end)
        return Estimate(float(found[0]), found[1:], worst.questions, worst.seeds)

    def open_ended(self, max_loss: float = MAX_LOSS) -> bool:
        """Whether the curve may end before it loses `max_loss`: in over 2.5% of the draws."""
        return bool((self._losses()[:, -1] < max_loss).mean() > 0.025)

    def _losses(self) -> np.ndarray:
        """[1 + DRAWS, n_points]: the measured losses, then those of each draw."""
        losses = [self.loss_at(x) for x in self.x]
        return np.array([[loss.value, *loss.draws] for loss in losses]).T


def bound_of(more: Curve, less: Curve) -> Literal["at least", "at most"] | None:
    """What a difference of two curves' `removable` is, if one of them ended too early.

    Raises:
        Lacking: both did, so that nothing is known.
    """
    if more.open_ended() and less.open_ended():
        raise Lacking(
            f"needs runs that remove more: both curves end, at {more.end:.0f}% and "
            f"{less.end:.0f}%, before {MAX_LOSS:.0f} F1 points are lost"
        )
    return "at least" if more.open_ended() else "at most" if less.open_ended() else None
