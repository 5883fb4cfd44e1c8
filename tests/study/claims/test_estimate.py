"""Estimates: against a literal bootstrap, in pairs, and their coverage."""

from __future__ import annotations

import random
import statistics as python_statistics
from dataclasses import replace

import numpy as np
import pytest

from qaprune_lib.errors import RecordError
from study.claims.estimate import (
    DRAWS,
    average,
    exact,
    mean_f1,
    mean_of,
    number,
    over_rounds,
    standard_deviation,
)


def some_articles(seed: int, n: int = 30) -> list[list[float]]:
    rng = np.random.default_rng(seed)
    questions = rng.integers(5, 40, n)
    return [[int(q), float(q * f)] for q, f in zip(questions, rng.normal(70, 12, n), strict=True)]


def overall(articles: list[list[float]]) -> float:
    return sum(f1 for _, f1 in articles) / sum(n for n, _ in articles)


def test_value_is_f1_over_all_questions() -> None:
    articles = some_articles(0)
    estimate = mean_f1([articles])
    assert estimate.value == pytest.approx(overall(articles))
    assert estimate.basis["questions"] == sum(n for n, _ in articles)
    assert "seeds" not in estimate.basis


def test_interval_is_that_of_a_literal_bootstrap() -> None:
    """Draw articles one by one, n − 1 of them, and take percentiles of the F1 of what was drawn."""
    one, other = some_articles(1), some_articles(2)
    other = [[n, n * f1 / m] for (n, _), (m, f1) in zip(one, other, strict=True)]
    difference = mean_f1([one]) - mean_f1([other])
    rng = random.Random(0)
    drawn = []
    for _ in range(6000):
        places = rng.choices(range(len(one)), k=len(one) - 1)
        drawn.append(overall([one[i] for i in places]) - overall([other[i] for i in places]))
    cuts = python_statistics.quantiles(drawn, n=40)
    assert difference.interval == pytest.approx((cuts[0], cuts[-1]), abs=0.4)
    assert difference.draws.std() == pytest.approx(python_statistics.stdev(drawn), rel=0.06)


def test_the_same_articles_are_drawn_in_pairs() -> None:
    articles = some_articles(3)
    better = [[n, f1 + 2 * n] for n, f1 in articles]
    ahead = mean_f1([better]) - mean_f1([articles])
    assert ahead.interval == pytest.approx((2, 2))
    low, high = mean_f1([articles]).interval or (0, 0)
    assert high - low > 3


def test_other_articles_are_drawn_independently() -> None:
    one, other = mean_f1([some_articles(4)]), mean_f1([some_articles(5)])
    assert abs(np.corrcoef(one.draws, other.draws)[0, 1]) < 0.1
    spread = np.hypot(one.draws.std(), other.draws.std())
    assert (one - other).draws.std() == pytest.approx(spread, rel=0.1)


def test_models_that_answer_more_or_less_are_paired_by_questions() -> None:
    """On Natural Questions the denominators differ by model; documents are drawn together."""
    rng = np.random.default_rng(12)
    due = rng.integers(0, 2, 60)
    runs = []
    for share in (0.5, 0.8):
        given = rng.random(60) < share
        right = due * given * (rng.random(60) < 0.8)
        rows = zip(due + given, 200.0 * right, strict=True)
        runs.append([[int(count), float(summed), 1] for count, summed in rows])
    one, other = (mean_f1([run]) for run in runs)
    assert one.basis["questions"] == other.basis["questions"] == 60
    assert one.value == pytest.approx(overall([article[:2] for article in runs[0]]))
    assert np.corrcoef(one.draws, other.draws)[0, 1] > 0.2
    assert mean_f1(runs, {"seeds": 2}).value == pytest.approx((one.value + other.value) / 2)
    python = random.Random(2)
    drawn = []
    for _ in range(6000):
        places = python.choices(range(60), k=59)
        few, many = (overall([run[i][:2] for i in places]) for run in runs)
        drawn.append(many - few)
    assert (other - one).draws.std() == pytest.approx(python_statistics.stdev(drawn), rel=0.06)
    # records that leave out documents without answers cannot be paired, nor averaged
    fewer = [[article[:2] for article in run if article[0]] for run in runs]
    assert abs(np.corrcoef(*(mean_f1([run]).draws for run in fewer))[0, 1]) < 0.1
    with pytest.raises(RecordError, match="same articles"):
        mean_f1(fewer)


def test_intervals_cover_the_truth() -> None:
    """Of 300 data sets with a known difference, 95% of the intervals should hold it."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        questions = rng.integers(5, 40, 40)
        common = rng.normal(70, 10, 40)
        runs = [
            [[int(n), n * f] for n, f in zip(questions, common + shift, strict=True)]
            for shift in (rng.normal(0, 5, 40), rng.normal(1.5, 5, 40))
        ]
        low, high = (mean_f1([runs[1]]) - mean_f1([runs[0]])).interval or (0, 0)
        covered += low <= 1.5 <= high
    assert 0.91 <= covered / 300 <= 0.98


def test_seeds_add_their_spread() -> None:
    """Equal articles, F1 that differs by seed: the spread is that of a mean over seeds."""
    shifts = [-2.0, -1.0, 0.5, 1.0, 1.5]
    runs = [[[10, 10 * (70 + shift)] for _ in range(20)] for shift in shifts]
    estimate = mean_f1(runs, {"seeds": 5})
    assert estimate.value == pytest.approx(70)
    expected = python_statistics.stdev(shifts) / np.sqrt(5)
    assert estimate.draws.std() == pytest.approx(expected, rel=0.06)
    assert mean_of(shifts).draws.std() == pytest.approx(expected, rel=0.06)


def test_seeds_and_articles_together() -> None:
    """Variances of articles and of seeds add, as a run over both in a loop confirms."""
    base = some_articles(6)
    runs = [[[n, f1 + n * shift] for n, f1 in base] for shift in (-1.5, 0.0, 0.2, 1.3)]
    rng = random.Random(1)
    drawn = []
    for _ in range(6000):
        places = rng.choices(range(len(base)), k=len(base) - 1)
        chosen = rng.choices(runs, k=len(runs) - 1)
        drawn.append(python_statistics.mean(overall([run[i] for i in places]) for run in chosen))
    estimate = mean_f1(runs, {"seeds": 4})
    assert estimate.draws.std() == pytest.approx(python_statistics.stdev(drawn), rel=0.06)


def test_one_run_alone_has_no_interval() -> None:
    assert mean_of([40.0]).interval is None
    assert (mean_of([40.0]) - exact(10)).interval is None
    assert mean_f1([[[20, 1400.0]]]).interval is None
    assert str(mean_of([40.0])) == "40.0"


def test_the_same_data_gives_the_same_draws() -> None:
    articles = some_articles(7)
    assert np.array_equal(mean_f1([articles]).draws, mean_f1([articles]).draws)
    assert np.array_equal(mean_of([1.0, 2.0]).draws, mean_of([1.0, 2.0]).draws)


def test_arithmetic_is_draw_by_draw() -> None:
    one, other = (
        mean_f1([some_articles(8)], {"seeds": 3}),
        mean_f1([some_articles(8)], {"seeds": 2}),
    )
    mixed = average([one, 0.5 * other])
    assert mixed.value == pytest.approx(0.75 * one.value)
    assert np.allclose(mixed.draws, 0.75 * one.draws)
    assert dict(mixed.basis) == {"seeds": 2, "questions": one.basis["questions"]}
    assert (one - exact(1)).basis["seeds"] == 3


def test_runs_on_different_articles_cannot_be_averaged() -> None:
    with pytest.raises(RecordError, match="same articles"):
        mean_f1([some_articles(9), some_articles(10)])
    with pytest.raises(RecordError, match="same articles"):
        mean_f1([])


def test_rounds_give_their_range() -> None:
    assert over_rounds(2.0, [1.9, 2.0, 2.2, 1.8, 2.1]).interval == pytest.approx((1.8, 2.2))
    assert exact(3).interval == (3, 3)


def test_standard_deviation_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        low, high = standard_deviation(list(rng.normal(0, 2, 5))).interval or (0, 0)
        covered += low <= 2 <= high
    assert 0.91 <= covered / 300 <= 0.985
    with pytest.raises(RecordError, match="two runs"):
        standard_deviation([1.0])


def test_of_several_tests_each_interval_is_wider() -> None:
    estimate = mean_f1([some_articles(12)])
    low, high = np.percentile(estimate.draws, [0.625, 99.375])
    assert replace(estimate, tests=4).interval == pytest.approx((low, high))
    assert str(replace(estimate, tests=4)) == f"{estimate.value:.1f} ({low:.1f} to {high:.1f})"


def test_numbers_are_printed_plainly() -> None:
    assert [number(x) for x in (-0.04, -1.25, 3.0)] == ["0.0", "−1.2", "3.0"]
    assert len(mean_f1([some_articles(11)]).draws) == DRAWS
