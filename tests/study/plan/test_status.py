from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qaprune_lib.errors import RecordError
from study.plan import status
from study.plan.plan import Planner, record_file
from study.plan.single_runs import id_of
from study.plan.status import (
    ACCEPTED,
    RunStatus,
    accept,
    main,
    profile_status,
    stale,
    trusted_code,
    unplanned,
    why_stale,
)
from study.records.record import write_record
from study.stages.questions import Questions
from tests.experiment.made_records import PROFILE, planner, record

STALE = "stale: the code of stage {} has changed since"


class Code:
    """What `code_digest` says of each stage; "0a" unless set."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}

    def __call__(self, stage: str) -> str:
        return self.digests.get(stage, "0a")


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> Code:
    made = Code()
    monkeypatch.setattr(status, "code_digest", made)
    return made


@pytest.fixture
def complete(tmp_path: Path, code: Code) -> Planner:
    """A profile with a record of all that is planned: 1 + 3 runs, the selection, 8 after it."""
    plan = planner(str(tmp_path / "results"), objectives=["cross_entropy"])
    for name, selection in plan.selections().items():
        metrics = {"attn": 0.1, "ff": 0.001}
        fill(plan, "select", selection.parameters, metrics=metrics)
        for run in plan.plan({name: metrics}):
            fill(plan, run.stage, run.identity())
    return plan


def fill(plan: Planner, stage: str, parameters: Any, **changes: Any) -> None:
    made = record(stage, parameters, **{"code_digest": "0a", **changes})
    write_record(Path(plan.results), made)


def states(plan: Planner) -> dict[str, str]:
    return {run.id: run.state for run in profile_status(plan)}


def run_of(plan: Planner, stage: str) -> str:
    return next(id_of(run) for run in plan.plan() if run.stage == stage)


def profile_file(folder: Path) -> str:
    path = folder / "small.yml"
    path.write_text(json.dumps({**PROFILE, "objectives": ["cross_entropy"]}))
    return str(path)


def test_an_empty_folder_lacks_all_that_can_be_named(tmp_path: Path, code: Code) -> None:
    plan = planner(str(tmp_path))
    [selection] = plan.selections().values()
    expected = {id_of(run) for run in plan.plan()} | {selection.id}
    assert states(plan) == dict.fromkeys(expected, "missing")


def test_a_selection_shows_what_follows_from_it(complete: Planner) -> None:
    found = states(complete)
    assert set(found.values()) == {"complete"}
    stages = [run.partition("/")[0] for run in found]
    assert {stage: stages.count(stage) for stage in stages} == {
        "finetune": 1,
        "score": 3,
        "prune": 1,
        "retrain": 2,
        "time": 1,
        "select": 1,
    }


def test_one_missing_record(complete: Planner) -> None:
    name = run_of(complete, "finetune")
    record_file(complete, name).unlink()
    found = states(complete)
    assert found.pop(name) == "missing"
    assert set(found.values()) == {"complete"}


def test_stale_by_code_is_of_one_stage(complete: Planner, code: Code) -> None:
    code.digests["score"] = "0b"
    for name, state in states(complete).items():
        assert state == (STALE.format("score") if name.startswith("score/") else "complete")
    reasons = {made.stage: reason for made, reason in stale(Path(complete.results))}
    assert reasons == {"score": STALE.format("score")}


def test_accepted_code_is_trusted_until_it_changes_again(complete: Planner, code: Code) -> None:
    results, score, prune = Path(complete.results), run_of(complete, "score"), "prune/none"
    code.digests["score"] = "0b"
    assert trusted_code(complete, score) == "0b"  # stale: the graph sees a change and runs it again
    assert accept(results, "a variable was renamed") == 3
    assert set(states(complete).values()) == {"complete"}
    assert trusted_code(complete, score) == "0a"
    assert trusted_code(complete, prune) == "0a"  # there is no record: today's code
    [entry] = json.loads((results / ACCEPTED).read_text())
    assert entry == {
        "stage": "score",
        "recorded": "0a",
        "equivalent": "0b",
        "why": "a variable was renamed",
    }
    assert accept(results, "nothing is stale now") == 0
    assert len(json.loads((results / ACCEPTED).read_text())) == 1

    code.digests["score"] = "0c"
    assert states(complete)[score] == STALE.format("score")
    assert trusted_code(complete, score) == "0c"
    code.digests["score"] = "0a"  # the change was taken back
    assert set(states(complete).values()) == {"complete"}


def test_acceptance_of_one_digest_says_nothing_of_another(code: Code) -> None:
    code.digests["score"] = "0b"
    made = record("score", {"data": "squad2"}, code_digest="0a")
    assert why_stale(made, [["0a", "0b"]]) is None
    assert why_stale(made, [["0b", "0a"]]) == STALE.format("score")
    assert why_stale(made, [["0a", "0c"], ["0d", "0b"]]) == STALE.format("score")


def test_records_of_different_data_are_noticed(complete: Planner) -> None:
    [first, *_] = complete.plan()
    fill(complete, first.stage, first.identity(), data_digest="0e")
    found = profile_status(complete)
    assert RunStatus("squad2", "stale: its records are of 2 versions of the data") in found
    assert [run for run in found if run.state != "complete"] == [found[-1]]


@pytest.mark.parametrize("text", ["[", '["0a"]', '[{"recorded": "0a"}]', "7"])
def test_a_damaged_list_of_accepted_code_is_named(
    complete: Planner, code: Code, text: str, capsys: Any, tmp_path: Path
) -> None:
    path = Path(complete.results) / ACCEPTED
    path.write_text(text)
    with pytest.raises(RecordError, match=f"{path}: not a list of accepted code"):
        profile_status(complete)
    assert main([profile_file(tmp_path), "--results", complete.results]) == 2
    assert main(["--results", complete.results, "--accept", "so"]) == 2
    assert f"error: {path}" in capsys.readouterr().err
    assert path.read_text() == text


def test_a_damaged_record_is_named(complete: Planner, tmp_path: Path, capsys: Any) -> None:
    path = record_file(complete, run_of(complete, "score"))
    path.write_text(path.read_text()[:-20])
    assert main([profile_file(tmp_path), "--results", complete.results]) == 2
    assert f"error: {path}: not JSON, or cut short" in capsys.readouterr().err


def test_the_command_line(complete: Planner, code: Code, tmp_path: Path, capsys: Any) -> None:
    arguments = [profile_file(tmp_path), "--results", complete.results]
    assert main(arguments) == 0
    output = capsys.readouterr().out
    assert output.splitlines()[-1] == f"{arguments[0]}: 9 of 9 runs are complete"

    code.digests["finetune"] = "0b"
    finetune = run_of(complete, "finetune")
    assert main(arguments) == 1
    output = capsys.readouterr().out
    assert f"{STALE.format('finetune')} {finetune}\n" in output
    assert f"{arguments[0]}: 8 of 9 runs are complete" in output
    assert f"embedded/small/{finetune}: {STALE.format('finetune')}\n" in output

    assert main([*arguments, "--accept", "a comment"]) == 0
    assert capsys.readouterr().out.startswith("1 records accepted\n")

    record_file(complete, finetune).unlink()
    assert main(arguments) == 1
    assert f"missing    {finetune}\n" in capsys.readouterr().out
    assert main(["none.yml"]) == 2
    assert "none.yml: no such profile" in capsys.readouterr().err


def test_changed_questions_are_noticed_where_they_are_read(
    tmp_path: Path, code: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QAPRUNE_CACHE", str(tmp_path / "cache"))
    few = {"source": "embedded", "train_questions": 9, "heldout_questions": 5, "dev_questions": 5}
    plan = planner(str(tmp_path / "results"), data={"squad2": few})
    [run, *_] = plan.plan()
    digest = Questions.load(run).digest
    fill(plan, run.stage, run.identity(), data_digest=digest)
    assert "squad2" not in {r.id for r in profile_status(plan, read_data=True)}
    fill(plan, run.stage, run.identity(), data_digest="1d")
    assert "squad2" not in states(plan)
    [found] = [r for r in profile_status(plan, read_data=True) if r.id == "squad2"]
    assert found.state == "stale: embedded holds other questions by now"


def test_runs_that_the_profile_does_not_ask_for_are_listed(
    complete: Planner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unplanned(complete) == []
    [selection] = complete.selections().values()
    other = next(run for run in complete.plan() if run.stage == "score")
    by_hand = other.model_copy(update={"seed": 77})
    fill(complete, "score", by_hand.identity())
    assert unplanned(complete) == [id_of(by_hand)]
    assert id_of(by_hand) not in {run.id for run in profile_status(complete)}
    assert main([profile_file(tmp_path), "--results", complete.results]) == 0
    assert f"unplanned  {id_of(by_hand)}: in the figures until" in capsys.readouterr().out
    # what follows from a selection cannot be told from what was made by hand without it
    record_file(complete, selection.id).unlink()
    assert unplanned(complete) == []
