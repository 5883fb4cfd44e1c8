"""Claims 2, 3, 19 and 29 on planted decoding times."""

from __future__ import annotations

from typing import Any

import pytest

from tests.study.claims.planted import LOUD, QUIET, WHOLE, Planted, both_kinds

ROUNDS = (0.98, 1.0, 1.03)
"""What the rounds of a measurement multiply times by."""


def fast(speeds: dict[float, float], losses: dict[float, float], **settings: Any) -> Planted:
    """Models at multiples of λ: how often as fast, and what they lose once retrained."""
    made = Planted(**settings)
    model = made.tuned()
    made.selected(model)
    seconds = {model: [10.0, 10.0, 10.0]}
    for multiple, speed in speeds.items():
        point = made.pruned(model, 70.0, **both_kinds(made, model, multiple))
        for teacher in (None, model):
            made.retrained(point, WHOLE - losses[multiple], teacher=teacher)
        seconds[point] = [10 / speed * each for each in ROUNDS]
    made.timed(seconds)
    return made


@pytest.mark.parametrize(
    ("number", "data", "speed", "loss", "wobble", "verdict"),
    [
        (2, "squad2", 2.1, 1.0, QUIET, "holds"),
        (2, "squad2", 1.6, 1.0, QUIET, "does not hold"),
        (2, "squad2", 2.1, 3.0, QUIET, "does not hold"),
        (2, "squad2", 1.9, 1.0, QUIET, "undecided"),
        (2, "squad2", 2.1, 1.4, LOUD, "undecided"),
        (3, "nq", 2.0, 0.1, QUIET, "holds"),
        (3, "nq", 1.6, 0.1, QUIET, "does not hold"),
        (3, "nq", 2.0, 0.4, LOUD, "undecided"),
        (3, "squad2", 2.0, 0.1, QUIET, "not tested"),
        (2, "nq", 2.1, 1.0, QUIET, "not tested"),
    ],
)
def test_fast_and_accurate(
    number: int, data: str, speed: float, loss: float, wobble: float, verdict: str
) -> None:
    judgement = fast({2.0: speed}, {2.0: loss}, data=data, wobble=wobble).judge(number)
    assert judgement.outcome == verdict, judgement.why
    if verdict != "not tested":
        faster, lost = judgement.findings
        assert (faster.value, lost.value) == pytest.approx((speed, loss))
        assert (faster.low, faster.high) == pytest.approx((speed / 1.03, speed / 0.98))


def test_one_multiple_is_enough() -> None:
    made = fast({1.0: 1.5, 2.0: 2.1, 3.0: 2.5}, {1.0: 0.5, 2.0: 1.0, 3.0: 3.0})
    judgement = made.judge(2)
    assert judgement.verdict == "holds"
    assert judgement.why.startswith("At 2λ")


def test_where_one_of_several_is_enough_each_is_tested_more_strictly() -> None:
    one = fast({2.0: 2.1}, {2.0: 1.0}, wobble=2.0).judge(2).findings[1]
    several = fast({1.0: 1.2, 2.0: 2.1, 3.0: 2.5}, {1.0: 0.5, 2.0: 1.0, 3.0: 9.0}, wobble=2.0)
    strict = several.judge(2).findings[1]
    assert strict.value == pytest.approx(one.value)
    widths = [(f.high or 0) - (f.low or 0) for f in (one, strict)]
    assert widths[1] > 1.1 * widths[0] > 0


def test_of_failing_multiples_the_nearest_is_told() -> None:
    made = fast({1.0: 1.1, 2.0: 1.7, 3.0: 2.5}, {1.0: 1.0, 2.0: 1.3, 3.0: 9.0})
    judgement = made.judge(2)
    assert judgement.outcome == "does not hold"
    assert judgement.why.startswith("At 2λ")


def test_without_times() -> None:
    made = fast({2.0: 2.0}, {2.0: 1.0})
    made.records = [record for record in made.records if record.stage != "time"]
    assert "decoding times" in made.judge(2).why
    for number in (2, 19, 29):
        assert made.judge(number).verdict == "not tested"


def times(
    constant: float, attn: float, ff: float, noise: tuple[float, ...] = (0.0, 0.0, 0.0)
) -> Planted:
    """Decoding times that follow t = c + A·(1 − a) + F·(1 − f), plus noise of each round."""
    made = Planted()
    model = made.tuned()
    made.selected(model)
    gates = both_kinds(made, model)
    shares = {}
    for number, (a, f, encoder) in enumerate(
        ((40.0, 0.0, 8.6e6), (0.0, 40.0, 7.3e6), (40.0, 40.0, 6e6), (80.0, 80.0, 2e6))
    ):
        removed = {"attn": a, "ff": f}
        cut = {"fraction": 0.1 * number, **gates}
        shares[made.pruned(model, 70.0, removed=removed, encoder=encoder, **cut)] = (a, f)
    seconds = {model: [constant + attn + ff] * 3}
    for number, (point, (a, f)) in enumerate(shares.items()):
        ideal = constant + attn * (1 - a / 100) + ff * (1 - f / 100)
        seconds[point] = [ideal + off * (-1) ** number for off in noise]
    made.timed(seconds)
    return made


@pytest.mark.parametrize(
    ("constant", "noise", "verdict"),
    [
        (2.0, (-0.1, 0.0, 0.1), "holds"),
        (-2.0, (-0.1, 0.0, 0.1), "does not hold"),
        (0.1, (-1.0, 0.0, 1.0), "undecided"),
    ],
)
def test_constant_time(constant: float, noise: tuple[float, ...], verdict: str) -> None:
    judgement = times(constant, 4.0, 6.0, noise).judge(19)
    assert judgement.outcome == verdict, judgement.why
    assert judgement.effect is not None
    assert judgement.effect.value == pytest.approx(100 * constant / (constant + 10))


def test_the_constant_needs_both_kinds_apart() -> None:
    judgement = fast({1.0: 1.5, 2.0: 2.0}, {1.0: 1.0, 2.0: 2.0}).judge(19)
    assert judgement.verdict == "not tested"
    assert "heads and activations apart" in judgement.why


@pytest.mark.parametrize(
    ("attn", "ff", "noise", "verdict"),
    [
        (4.0, 6.0, (0.0, 0.0, 0.0), "holds"),
        (-4.0, -6.0, (0.0, 0.0, 0.0), "does not hold"),  # the smaller, the slower
        (4.0, 6.0, (-3.0, 0.0, 3.0), "undecided"),
    ],
)
def test_parameters_and_time(
    attn: float, ff: float, noise: tuple[float, ...], verdict: str
) -> None:
    judgement = times(20.0, attn, ff, noise).judge(29)
    assert judgement.outcome == verdict, judgement.findings
    assert [f.value for f in judgement.findings] == pytest.approx([1.0 if attn > 0 else -1.0] * 2)


def test_a_correlation_on_the_line_is_high_enough() -> None:
    # two neighbours of five are exchanged: 1 − 6·2/(5·24)
    judgement = times(20.0, 6.0, 4.0).judge(29)
    assert [f.value for f in judgement.findings] == [0.9, 0.9]
    assert judgement.verdict == "holds"


def test_few_models_do_not_correlate() -> None:
    assert fast({1.0: 1.5}, {1.0: 1.0}).judge(29).verdict == "not tested"
