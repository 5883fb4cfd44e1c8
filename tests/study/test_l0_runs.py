"""L0 runs side by side, and those that differ in one setting."""

from __future__ import annotations

import pytest

from study.frames import l0_runs, readings
from study.records.record import Record
from tests.study.synthetic import removed_by, sweep


@pytest.fixture(scope="module")
def records() -> list[Record]:
    made = sweep()
    tuned = next(r.id for r in made.records if r.stage == "finetune")
    made.l0(tuned, "attn", 0.04, shift=20.0, penalty_on="one")
    return made.records


def test_a_row_for_each_run_at_its_own_threshold(records: list[Record]) -> None:
    runs = l0_runs(records)
    l0 = [r for r in records if r.stage == "score" and r.parameters["scorer"] == "l0"]
    assert sorted(runs["run"]) == sorted(record.id for record in l0)
    plain = runs[runs["variant"].eq("") & runs["kind"].eq("attn") & runs["seed"].eq(0)]
    for row in plain.itertuples():
        assert row.removed == pytest.approx(removed_by(row.penalty, "attn"))  # type: ignore[arg-type]
        assert row.reach == 0.1 * 100 / 2
        assert row.f1 + row.loss == pytest.approx(80)  # type: ignore[operator]


def test_the_sweep_is_what_the_operating_point_was_chosen_from() -> None:
    """Also where more runs, of a study, have another setting."""
    made = sweep()
    tuned = next(r.id for r in made.records if r.stage == "finetune")
    for seed in range(9):
        for penalty in (0.02, 0.04, 0.08):
            made.l0(tuned, "attn", penalty, seed, max_steps=400)
    variants = l0_runs(made.records).groupby("max_steps")["variant"].unique()
    assert list(variants[400]) == ["400 steps"]
    [own] = set(variants.index) - {400}
    assert "" in variants[own]


def test_readings_differ_in_one_setting_alone(records: list[Record]) -> None:
    runs = l0_runs(records)
    pairs = readings(runs, "penalty_on")
    assert list(pairs["penalty_on"]) == ["nonzero", "one"]
    assert pairs["penalty"].unique().tolist() == [0.04]
    assert pairs["learning_rate"].unique().tolist() == [0.1]
    assert list(readings(runs, "learning_rate")["learning_rate"]) == [0.001, 0.01, 0.1]
    assert readings(runs, "dropout").empty


def test_missing_values_are_equal_to_each_other(records: list[Record]) -> None:
    runs = l0_runs(records)
    runs["max_steps"] = None
    assert len(readings(runs, "penalty_on")) == 2


def test_no_records_no_rows() -> None:
    assert l0_runs([]).empty
    assert readings(l0_runs([]), "optimizer").empty


def test_unknown_setting_is_named(records: list[Record]) -> None:
    with pytest.raises(KeyError, match="penaltyon"):
        readings(l0_runs(records), "penaltyon")
