from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qaprune_lib.errors import RecordError
from study.plan.parameters import ScoreGates
from study.plan.plan import Planner
from study.plan.select import (
    main,
    record_selection,
    select_operating_point,
    selected_points,
)
from study.records.record import Record, read_record, write_record
from tests.study.plan.made_records import PROFILE, l0_record, planner

KINDS = ("attn", "ff")
Losses = dict[str, dict[float, list[float]]]
"""F1 points lost by kind, λ and seed."""


def candidates(losses: Losses) -> dict[str, list[Record]]:
    return {
        kind: [
            l0_record(l0_run(kind, penalty, seed), lost)
            for penalty, seeds in of_kind.items()
            for seed, lost in enumerate(seeds)
        ]
        for kind, of_kind in losses.items()
    }


def l0_run(kind: str, penalty: float, seed: int = 0) -> ScoreGates:
    penalties = {"penalty_attn": None, f"penalty_{kind}": penalty}
    return ScoreGates.checked({"kinds": [kind], "seed": seed, **penalties})


def by_the_rule(losses: dict[float, list[float]], max_loss: float) -> tuple[float, bool]:
    """From the largest λ down, the first whose mean loss is small enough, in exact arithmetic."""
    for penalty in sorted(losses, reverse=True):
        seeds = [Fraction(lost) for lost in losses[penalty]]
        if sum(seeds) < Fraction(max_loss) * len(seeds):
            return penalty, False
    return min(losses), True


eighths = st.integers(-16, 120).map(lambda n: n / 8)  # sums and differences of these are exact
of_kind = st.dictionaries(
    st.sampled_from([0.001, 0.02, 0.03, 0.08, 0.5, 1.0]),
    st.lists(eighths, min_size=1, max_size=4),
    min_size=1,
)


@given(
    losses=st.fixed_dictionaries(dict.fromkeys(KINDS, of_kind)),
    max_loss=st.integers(1, 80).map(lambda n: n / 8),
    chance=st.randoms(use_true_random=False),
)
def test_the_largest_penalty_that_loses_little(
    losses: Losses, max_loss: float, chance: Any
) -> None:
    records = candidates(losses)
    for of_one in records.values():
        chance.shuffle(of_one)
    metrics = select_operating_point(records, max_loss)
    for kind in KINDS:
        assert (metrics[kind], metrics["fallback"][kind]) == by_the_rule(losses[kind], max_loss)
        rows = [row for row in metrics["table"] if row["kind"] == kind]
        assert [row["penalty"] for row in rows] == sorted(losses[kind])
        for row in rows:
            seeds = losses[kind][row["penalty"]]
            assert row["n_seeds"] == len(seeds)
            assert row["loss"] == pytest.approx(sum(seeds) / len(seeds))
            assert row["f1"] == pytest.approx(80 - sum(seeds) / len(seeds))
            assert row["removed"] == pytest.approx(40)


def test_a_penalty_that_loses_exactly_the_limit_is_not_taken() -> None:
    metrics = select_operating_point(candidates({"attn": {0.1: [1.0], 0.2: [5.0]}}), 5.0)
    assert (metrics["attn"], metrics["fallback"]["attn"]) == (0.1, False)


def test_seeds_are_averaged_before_they_are_judged() -> None:
    losses: Losses = {"attn": {0.1: [1.0, 1.0], 0.2: [8.0, 1.0], 0.4: [8.0, 3.0]}}
    metrics = select_operating_point(candidates(losses), 5.0)
    assert metrics["attn"] == 0.2
    assert [row["loss"] for row in metrics["table"]] == [1.0, 4.5, 5.5]


def test_where_all_lose_too_much_the_smallest_is_taken_and_said_to_be() -> None:
    losses: Losses = {"attn": {0.1: [9.0], 0.2: [7.0]}, "ff": {0.1: [1.0]}}
    metrics = select_operating_point(candidates(losses), 5.0)
    assert metrics["attn"] == 0.1
    assert metrics["fallback"] == {"attn": True, "ff": False}


def test_a_kind_without_runs_is_an_error() -> None:
    with pytest.raises(RecordError, match="no L0 run of kind ff"):
        select_operating_point({**candidates({"attn": {0.1: [1.0]}}), "ff": []})


@pytest.mark.parametrize(
    "damage",
    [
        {},
        {"curves": 7},
        {"curves": [{"kind": "attn", "points": []}]},
        {"curves": [{"kind": "attn", "points": [{"own_threshold": True}]}]},
        {"unpruned": None},
        {"unpruned": {"f1": "high"}},
    ],
)
def test_a_run_that_measured_something_else_is_named(damage: dict[str, Any]) -> None:
    [record] = candidates({"attn": {0.1: [1.0]}})["attn"]
    other = record.model_copy(update={"metrics": {**record.metrics, **damage} if damage else {}})
    with pytest.raises(RecordError, match=f"{record.id}: its metrics are not those of L0 on attn"):
        select_operating_point({"attn": [other]})


@pytest.fixture
def swept(tmp_path: Path) -> Planner:
    """The sweep on base, recorded: λ = 0.2 loses too much."""
    plan = planner(str(tmp_path))
    for run in plan.plan():
        if isinstance(run, ScoreGates):
            write_record(tmp_path, l0_record(run, 50 * (run.penalty_attn or 0.0)))
    return plan


def test_a_selection_is_recorded_and_found_again(swept: Planner) -> None:
    assert selected_points(swept) == {}
    path = record_selection(swept, "squad2")
    [selection] = swept.selections().values()
    assert path == swept.record_file(selection.id)
    recorded = read_record(path)
    assert (recorded.source, recorded.data_digest) == ("embedded", "0d")
    assert recorded.name == "selection/squad2"
    assert selected_points(swept) == {"squad2": {"attn": 0.1, "ff": 0.001}}


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: text.replace('"attn": 0.1', '"attn": "most"'),
        lambda text: text.replace('"attn": 0.1', '"heads": 0.1'),
        lambda text: text.replace('"attn": 0.1', '"attn": true'),
        lambda text: text.replace('"attn": 0.1', '"attn": -0.1'),
        lambda text: text.replace('"attn": 0.1', '"attn": 1' + "0" * 400),
        lambda text: text.replace('"max_loss": 5.0', '"max_loss": 6.0'),
        lambda text: text.replace('"stage": "select"', '"stage": "prune"'),
    ],
)
def test_a_selection_that_cannot_be_read_is_said_to_be_missing(
    swept: Planner, damage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = record_selection(swept, "squad2")
    whole = path.read_text()
    path.write_text(damage(whole))
    assert path.read_text() != whole
    assert selected_points(swept) == {}
    assert capsys.readouterr().err.startswith(f"taken for missing: {path}: ")
    record_selection(swept, "squad2")
    assert selected_points(swept)["squad2"]["attn"] == 0.1


@pytest.mark.parametrize("what", ["folder", "pipe", "device", "dangling link"])
def test_a_selection_that_is_no_file_is_said_to_be_missing(
    swept: Planner, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = record_selection(swept, "squad2")
    path.unlink()
    ways: dict[str, Callable[[], object]] = {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "dangling link": lambda: path.symlink_to("nowhere"),
    }
    ways[what]()
    assert selected_points(swept) == {}
    assert capsys.readouterr().err.startswith(f"taken for missing: {path}: ")


def test_a_longer_sweep_selects_anew(swept: Planner) -> None:
    record_selection(swept, "squad2")
    longer = planner(swept.results, penalties={"attn": [0.1, 0.15, 0.2], "ff": [0.001]})
    assert selected_points(longer) == {}
    [new] = {run.id for run in longer.plan()} - {run.id for run in swept.plan()}
    with pytest.raises(RecordError, match=new):
        record_selection(longer, "squad2")


def test_the_command_line(swept: Planner, tmp_path: Path, capsys: Any) -> None:
    profile = tmp_path / "small.yml"
    profile.write_text(str(PROFILE))  # a Python literal of plain values is YAML
    assert main([str(profile), "squad2", "--results", swept.results]) == 0
    assert selected_points(swept)["squad2"]["attn"] == 0.1
    missing = swept.record_file(swept.selections()["squad2"].upstream()[-1])
    missing.unlink()
    assert main([str(profile), "squad2", "--results", swept.results]) == 2
    error = "cannot be read: No such file or directory"
    assert capsys.readouterr().err == f"error: {missing}: {error}\n"
    assert main([str(profile), "squad1", "--results", swept.results]) == 2
    assert "'squad1' has no operating point of its own" in capsys.readouterr().err
