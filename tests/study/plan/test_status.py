from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from study.plan import status
from study.plan.plan import Planner
from study.plan.status import main, profile_status, unplanned
from study.records.record import write_record
from tests.study.plan.made_records import PROFILE, planner, record

METRICS = {"attn": 0.1, "ff": 0.001}


@pytest.fixture
def complete(tmp_path: Path) -> Planner:
    """A profile with a record of all that is planned: 1 + 3 runs, the selection, 5 after it."""
    plan = planner(tmp_path / "results", objectives=["cross_entropy"])
    [selection] = plan.selections().values()
    for run in (*plan.plan({"squad2": METRICS}), selection):
        write_record(tmp_path / "results", record(run, METRICS, commit="0123456789abcdef"))
    return plan


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    path = tmp_path / "small.yml"
    path.write_text(json.dumps({**PROFILE, "objectives": ["cross_entropy"]}))
    return [str(path), "--results", f"{tmp_path}/results"]


def states(plan: Planner) -> dict[str, str]:
    return {run.id: run.state for run in profile_status(plan)}


def run_of(plan: Planner, stage: str) -> str:
    return next(run.id for run in plan.plan() if run.stage == stage)


def test_an_empty_folder_lacks_all_that_can_be_named(tmp_path: Path) -> None:
    plan = planner(tmp_path)
    [selection] = plan.selections().values()
    expected = {run.id for run in plan.plan()} | {selection.id}
    assert states(plan) == dict.fromkeys(expected, "missing")


def test_a_selection_shows_what_follows_from_it(complete: Planner) -> None:
    found = profile_status(complete)
    assert {run.state for run in found} == {"complete"}
    counts = {"finetune": 1, "score": 3, "prune": 1, "retrain": 2, "time": 1, "select": 1}
    assert Counter(run.record.stage for run in found if run.record is not None) == counts


def test_a_missing_and_a_damaged_record(
    complete: Planner, arguments: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "changed_since", lambda commit: 3)
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{arguments[0]}: 9 of 9 runs are complete"
    made = "  (made at 01234567, 3 files of the library changed since)"
    assert all(line.startswith("complete   ") and line.endswith(made) for line in lines[:-1])

    tuned, scored = run_of(complete, "finetune"), run_of(complete, "score")
    complete.record_file(tuned).unlink()
    path = complete.record_file(scored)
    path.write_text(path.read_text()[:-20])
    found = states(complete)
    assert found.pop(tuned) == "missing"
    assert found.pop(scored).startswith(f"damaged: {path}: not JSON, or cut short")
    assert set(found.values()) == {"complete"}
    assert main(arguments) == 1
    output = capsys.readouterr().out
    assert f"missing    {tuned}\n" in output
    assert f"damaged: {path}: " in output
    assert f"{arguments[0]}: 7 of 9 runs are complete" in output


def test_a_damaged_selection_is_named_and_what_follows_is_not_counted(
    complete: Planner, arguments: list[str], capsys: Any
) -> None:
    [selection] = complete.selections().values()
    path = complete.record_file(selection.id)
    path.write_text("{}")
    assert main(arguments) == 1
    output = capsys.readouterr()
    assert output.err.startswith(f"taken for missing: {path}: ")
    assert output.err.count("\n") == 1
    assert f"damaged: {path}: " in output.out
    assert f"{arguments[0]}: 5 of 6 runs are complete" in output.out


def test_a_missing_profile_is_named(capsys: Any) -> None:
    assert main(["none.yml"]) == 2
    assert "none.yml: no such profile" in capsys.readouterr().err


def test_runs_that_the_profile_does_not_ask_for_are_listed(
    complete: Planner, arguments: list[str], capsys: Any
) -> None:
    assert unplanned(complete) == []
    other = next(run for run in complete.plan() if run.stage == "score")
    by_hand = other.model_copy(update={"seed": 77})
    twice = other.model_copy(update={"name": "another"})
    for run in (by_hand, twice):
        write_record(Path(complete.results), record(run, {}))
    assert unplanned(complete) == sorted([by_hand.id, twice.id])
    assert main(arguments) == 0
    assert f"unplanned  {by_hand.id}: in the figures until" in capsys.readouterr().out
    # what follows from a selection cannot be told from what was made by hand without it
    complete.record_file(complete.selections()["squad2"].id).unlink()
    assert unplanned(complete) == []


def test_a_record_on_other_weights_than_its_base_has_by_now_is_named(
    complete: Planner, arguments: list[str], tmp_path: Path, capsys: Any
) -> None:
    tuned, scored, *_ = complete.plan()
    results, at = tmp_path / "results", {"commit": "0123456789abcdef"}
    for weights, lacking in (("aa" * 32, 0), ("bb" * 32, 1)):
        write_record(results, record(tuned, {**METRICS, "weights": weights}, **at))
        if not lacking:
            built = record(scored, METRICS, **at).model_copy
            write_record(results, built(update={"built_on": {tuned.id: weights}}))
        assert main(arguments) == lacking
    [line] = [x for x in capsys.readouterr().out.splitlines() if x.startswith("outdated")]
    assert scored.id in line
    assert f"{tuned.id} was made again" in line
