"""Times of several things in turns; rounds that something else disturbed are measured again."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

TOLERANCE = 0.10
"""A round that is further from the median than this share of it is measured again."""


class Rounds(NamedTuple):
    """Seconds of several clocks in turns.

    seconds: [rounds][clocks]. repeated: how many rounds were measured again.
    """

    seconds: list[list[float]]
    repeated: int

    def ratios(self, over: int, under: int = 0) -> list[float]:
        """Of each round, the time of one clock divided by that of another."""
        return [row[over] / row[under] for row in self.seconds]


def in_turns(clocks: Sequence[Callable[[], float]], rounds: int, *, warm_up: int = 1) -> Rounds:
    """Run all clocks in turns (A B C A B C …), so that other work on the machine meets all alike.

    A clock does a piece of work once and returns its seconds. A round that disagrees with the
    others is measured again, at most as many times as there are rounds. Of one clock alone, its
    seconds are compared; of several, their ratios to the first.

    >>> seconds = iter([1.0, 1.05, 3.0, 1.0])
    >>> in_turns([lambda: next(seconds)], 3, warm_up=0)
    Rounds(seconds=[[1.0], [1.05], [1.0]], repeated=1)
    """

    def one_round() -> list[float]:
        return [each() for each in clocks]

    for _ in range(warm_up):
        one_round()
    seconds = [one_round() for _ in range(rounds)]
    repeated = 0
    while repeated < rounds and (worst := disagreeing(seconds)) is not None:
        seconds[worst] = one_round()
        repeated += 1
    return Rounds(seconds, repeated)


def disagreeing(seconds: Sequence[Sequence[float]]) -> int | None:
    """The round that is furthest from the median, if it is further than the tolerance."""
    if len(seconds[0]) == 1:
        compared = [list(row) for row in seconds]
    else:
        compared = [[value / row[0] for value in row[1:]] for row in seconds]
    medians = [statistics.median(column) for column in zip(*compared, strict=True)]
    away = [max(abs(v / m - 1) for v, m in zip(row, medians, strict=True)) for row in compared]
    worst = max(range(len(away)), key=away.__getitem__)
    return worst if away[worst] > TOLERANCE else None
