"""Curves with their spread: against numpy's interpolation and a search draw by draw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qaprune_lib.errors import RecordError
from study.claims.curve import Curve, bound_of, removable
from study.claims.estimate import Estimate, mean_f1
from study.claims.judgement import Lacking

X = (0.0, 10.0, 30.0, 45.0, 70.0)


def a_curve(losses: list[float], noise: float = 3.0, seed: int = 0) -> Curve:
    rng = np.random.default_rng(seed)
    f1 = [[[20, 20 * (80 - loss + e)] for e in rng.normal(0, noise, 25)] for loss in losses]
    return Curve.through([(x, mean_f1([run])) for x, run in zip(X, f1, strict=True)])


def draws(curve: Curve) -> np.ndarray:
    return np.array([f1.draws for f1 in curve.f1])


@pytest.mark.parametrize("x", [0.0, 5.0, 10.0, 22.0, 70.0, 90.0])
def test_between_points_it_is_linear(x: float) -> None:
    curve = a_curve([0, 1, 3, 8, 30])
    expected = [np.interp(x, X, column) for column in draws(curve).T[:50]]
    assert np.allclose(curve.at(x).draws[:50], expected)
    assert np.allclose(curve.loss_at(x).draws[:50], draws(curve)[0][:50] - expected)


@pytest.mark.parametrize("end", [5.0, 30.0, 60.0, 70.0])
def test_mean_f1_is_the_area(end: float) -> None:
    curve = a_curve([0, 1, 3, 8, 30])
    fine = np.union1d(np.linspace(0, end, 7001), [x for x in X if x <= end])
    expected = [
        np.trapezoid(np.interp(fine, X, column), fine) / end for column in draws(curve).T[:5]
    ]
    assert np.allclose(curve.mean_f1(end).draws[:5], expected)


@pytest.mark.parametrize(
    "losses", [[0, 1, 3, 8, 30], [0, 6, 3, 8, 30], [0, 1, 1, 2, 3], [0, 9, 9, 9, 9]]
)
def test_removable_is_the_last_place_under_the_limit(losses: list[float]) -> None:
    curve = a_curve(losses)
    fine = np.linspace(0, 70, 70001)
    found = curve.removable()
    for column, x in zip(draws(curve).T[:40], found.draws[:40], strict=True):
        under = column[0] - np.interp(fine, X, column) < 5
        assert x == pytest.approx(fine[under][-1], abs=2e-3)


@given(st.lists(st.floats(-5, 30), min_size=1, max_size=6), st.floats(0.5, 20))
def test_removable_by_search(losses: list[float], max_loss: float) -> None:
    shares, losses = np.arange(len(losses) + 1) * 10.0, [0.0, *losses]
    fine = np.linspace(0, shares[-1], 20_001)
    under = fine[np.interp(fine, shares, losses) < max_loss]
    assert removable(shares, losses, max_loss) == pytest.approx(under[-1], abs=2 * fine[1])
    both = removable(shares, [losses, np.zeros(len(losses))], max_loss)
    assert both.tolist() == [removable(shares, losses, max_loss), shares[-1]]


def test_an_early_end_is_noticed() -> None:
    steep, flat = a_curve([0, 1, 3, 8, 30], 0.1), a_curve([0, 0, 0, 1, 2], 0.1)
    assert not steep.open_ended
    assert flat.open_ended
    assert flat.removable().value == 70
    assert bound_of(flat, steep) == "at least"
    assert bound_of(steep, flat) == "at most"
    assert bound_of(steep, steep) is None
    with pytest.raises(Lacking, match="runs that remove more"):
        bound_of(flat, flat)


def test_points_at_one_place_are_averaged() -> None:
    def at(value: float) -> Estimate:
        return mean_f1([[[20, 20 * value]] * 4])

    curve = Curve.through([(10.0, at(70)), (0.0, at(80)), (10.0, at(74))])
    assert curve.x == (0.0, 10.0)
    assert curve.at(10).value == pytest.approx(72)
    with pytest.raises(RecordError, match="needs a point"):
        Curve.through([])
