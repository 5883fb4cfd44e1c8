"""Findings against their lines, and verdicts made of them."""

from __future__ import annotations

import pytest

from study.claims.estimate import Estimate, Finding, exact, mean_of, over_rounds
from study.claims.judgement import Judgement


def between(low: float, high: float) -> Estimate:
    return over_rounds((low + high) / 2, [low, high])


@pytest.mark.parametrize(
    ("low", "high", "if_above", "if_below"),
    [
        (1.1, 2.0, "holds", "does not hold"),
        (0.2, 0.9, "does not hold", "holds"),
        (0.5, 1.5, "undecided", "undecided"),
        (1.0, 1.0, "does not hold", "does not hold"),  # strictly above, strictly below
    ],
)
def test_one_line(low: float, high: float, if_above: str, if_below: str) -> None:
    assert between(low, high).above(1, "points", "").verdict == if_above
    assert between(low, high).below(1, "points", "").verdict == if_below


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.9, 1.0, "holds"),
        (-1.2, 0.5, "undecided"),
        (0.5, 3.0, "undecided"),
        (-5.0, 5.0, "undecided"),
        (1.1, 3.0, "does not hold"),
        (-3.0, -1.1, "does not hold"),
    ],
)
def test_equivalence(low: float, high: float, verdict: str) -> None:
    assert between(low, high).within(-1, 1, "points", "").verdict == verdict


def test_without_a_spread_nothing_is_decided() -> None:
    alone = mean_of([50.0]).above(1, "points", "")
    assert (alone.low, alone.high, alone.verdict) == (None, None, "undecided")


def test_a_curve_that_ended_early_can_only_point_one_way() -> None:
    more, less = between(2, 3), between(-3, -2)
    assert more.above(0, "", "", bound="at least").verdict == "holds"
    assert less.above(0, "", "", bound="at least").verdict == "undecided"
    assert more.above(0, "", "", bound="at most").verdict == "undecided"
    assert less.above(0, "", "", bound="at most").verdict == "does not hold"


def findings(*values: float) -> tuple[Finding, ...]:
    return tuple(exact(value).above(0, "points", f"{value}") for value in values)


def test_all_parts_have_to_hold() -> None:
    assert Judgement(findings(1, 2), "").verdict == "holds"
    assert Judgement(findings(1, -2), "").verdict == "does not hold"
    unclear = between(-1, 1).above(0, "points", "")
    assert Judgement((*findings(1), unclear), "").verdict == "undecided"
    assert Judgement((*findings(-1), unclear), "").verdict == "does not hold"
    assert Judgement(findings(1), "", missing="a part").verdict == "undecided"
    assert Judgement(findings(-1), "", missing="a part").verdict == "does not hold"


def test_the_effect_is_that_which_decides() -> None:
    judgement = Judgement(findings(3, -2, -1), "")
    assert judgement.effect is not None
    assert judgement.effect.value == -2
    assert Judgement((), "").effect is None
