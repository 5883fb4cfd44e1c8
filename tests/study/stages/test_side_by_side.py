"""Runs side by side, in processes forked from this one, with stand-ins for the notebooks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from study.plan.plan import Planner
from study.plan.profile import Resources
from study.plan.select import selected_points
from study.records.environment import AT_ONCE, device
from study.records.record import FINISHED
from study.stages.side_by_side import SideBySide, main
from tests.study.plan.graph_folder import REPOSITORY, write_notebooks
from tests.study.plan.made_records import PROFILE, planner
from tests.study.plan.stand_in import events


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planner:
    """A profile of six runs and a selection, its folder the current one."""
    write_notebooks(tmp_path / "notebooks")
    monkeypatch.chdir(tmp_path)
    return planner("results", objectives=[])


def work(of: Planner, *patterns: str, jobs: int = 2, minutes: float = 5) -> SideBySide:
    """What has been run by now; as if a call of its own."""
    again = Planner(of.profile, results=of.results, runs=of.runs)
    made = SideBySide(again, jobs, time.monotonic() + 60 * minutes, patterns)
    made.run()
    return made


def planned(of: Planner) -> set[str]:
    return {run.id for run in of.plan(selected_points(of))}


def test_all_runs_are_made_upstream_first_and_once(small: Planner, tmp_path: Path) -> None:
    assert work(small).failed == set()
    ended = events(tmp_path, "end")
    assert sorted(ended) == sorted(planned(small))
    assert len(ended) == 6
    for run in small.plan(selected_points(small)):
        assert all(ended.index(above) < ended.index(run.id) for above in run.upstream())
        assert (Path(small.runs) / "embedded" / "small" / run.id / FINISHED).is_file()
    work(small)
    assert len(events(tmp_path, "begin")) == 6


def test_patterns_choose_and_order(small: Planner, tmp_path: Path) -> None:
    work(small, "figure2/*", "finetuned/*")  # the first waits for the second
    assert [run.partition("/")[0] for run in events(tmp_path, "end")] == ["finetuned", "figure2"]
    work(small, "figure2/*", "figure1/*0.2*", jobs=1)
    assert "l0-attn-0.2" in events(tmp_path, "end")[-1]
    assert selected_points(small) == {}


def test_what_failed_is_left_out_and_tried_by_the_next_call(
    small: Planner, tmp_path: Path, capfd: Any
) -> None:
    (tmp_path / "failing").write_text("l0-attn-0.2")
    with capfd.disabled():
        [failed] = work(small).failed
    assert "l0-attn-0.2" in failed
    log = tmp_path / "runs" / "embedded" / "small" / f"{failed}.log"
    assert f"RuntimeError: {failed} was told to fail" in log.read_text()
    assert len(events(tmp_path, "end")) == 3
    (tmp_path / "failing").unlink()
    assert work(small).failed == set()
    assert sorted(events(tmp_path, "end")) == sorted(planned(small))


def test_damaged_records_are_made_again(small: Planner, tmp_path: Path, capfd: Any) -> None:
    work(small)
    [selection] = small.selections().values()
    scored = small.record_file(selection.upstream()[0])
    path = small.record_file(selection.id)
    whole, ended = path.read_text(), events(tmp_path, "end")
    path.write_text(whole[:-20])
    scored.write_text("{}")
    assert work(small).failed == set()
    assert selected_points(small) == {"squad2": {"attn": 0.2, "ff": 0.001}}
    assert events(tmp_path, "end") == [*ended, selection.upstream()[0]]
    assert capfd.readouterr().err.count(f"taken for missing: {path.relative_to('.')}") == 1


def test_what_lost_its_files_is_made_again_where_others_build_on_it(
    small: Planner, tmp_path: Path, capfd: Any
) -> None:
    work(small)
    before = events(tmp_path, "end")
    [tuned] = [run for run in before if run.startswith("finetuned/")]
    place = Path(small.runs) / "embedded" / "small"
    shutil.rmtree(place / tuned)
    work(small)
    assert events(tmp_path, "end") == before  # nothing needs it
    [scored] = [run for run in before if run.startswith("figure2/")]
    small.record_file(scored).unlink()
    assert work(small).failed == set()
    assert events(tmp_path, "end") == [*before, tuned, scored]
    assert (place / tuned / FINISHED).is_file()
    said = capfd.readouterr().err
    assert said.count("made again") == 1
    assert f"scores are gone: {tuned};" in said


def test_threads_are_slots(small: Planner) -> None:
    wide = small.profile.model_copy(update={"resources": {"finetune": Resources(threads=2)}})
    runs = {run.stage: run for run in small.plan(selected_points(small))}
    for jobs, slots in ((1, 1), (2, 2), (8, 2)):
        made = SideBySide(Planner(wide, results=small.results, runs=small.runs), jobs, 0, [])
        assert (made.slots(runs["finetune"]), made.slots(runs["score"])) == (slots, 1)


def test_a_selection_that_fails_ends_what_follows_from_it(
    small: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("told to fail")

    monkeypatch.setattr("study.stages.side_by_side.record_selection", fail)
    [selection] = small.selections().values()
    assert work(small).failed == {selection.id}


def test_nothing_starts_that_cannot_end_in_time(small: Planner, tmp_path: Path) -> None:
    work(small, minutes=0.5)  # less than a run is thought to take
    assert events(tmp_path, "begin") == []


def test_what_has_not_ended_in_time_is_stopped(
    small: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("STAND_IN_SECONDS", "99-99")
    monkeypatch.setattr("study.stages.side_by_side.UNKNOWN", 0)
    work(small, minutes=0.1)
    [begun] = events(tmp_path, "begin")
    assert f"stopped: {begun}" in capsys.readouterr().out
    assert events(tmp_path, "end") == []


def test_runs_on_questions_that_are_not_here_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "train.json").touch()
    pages = {"task": "natural_questions", "origin": "files:0011", "after": "squad2"}
    mixed = planner(
        provenance="measured",
        data={"squad2": {"source": f"{tmp_path}/train.json"}, "nq": pages},
    )
    assert {run.data for run in mixed.plan()} == {"squad2", "nq"}
    assert {run.data for run in SideBySide(mixed, 1, 0, []).wanted()} == {"squad2"}


def test_a_missing_profile_is_named(capsys: Any) -> None:
    assert main(["none.yml"]) == 2
    assert "error: none.yml: no such profile" in capsys.readouterr().err


CALL = """
import sys
from study.stages import side_by_side
side_by_side.preload = lambda _: None
sys.exit(side_by_side.main(["p.yml", *sys.argv[1:]]))
"""


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(small: Planner, tmp_path: Path) -> Iterator[Start]:
    """Start a call of its own, whose runs take long."""
    (tmp_path / "p.yml").write_text(json.dumps({**PROFILE, "objectives": []}))
    environment = {"PYTHONPATH": str(REPOSITORY), "STAND_IN_SECONDS": "99-99"}
    started: list[subprocess.Popen[str]] = []

    def call(*options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", CALL, *options],
            cwd=tmp_path,
            env={**os.environ, **environment, "QAPRUNE_STALE_SECONDS": "3"},
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_one_call_makes_the_runs_and_they_end_with_it(start: Start, tmp_path: Path) -> None:
    """Another call that shares one of both folders is refused."""
    first = start()
    while not events(tmp_path, "begin"):
        assert first.poll() is None, first.communicate()
        time.sleep(0.1)
    for folder in ("results", "runs"):
        other = start(f"--{folder}", "elsewhere")
        assert f"process {first.pid} on " in other.communicate(timeout=60)[1].splitlines()[-1]
        assert other.returncode == 2
    jobs = psutil.Process(first.pid).children(recursive=True)
    assert jobs
    first.kill()
    first.wait()
    deadline = time.monotonic() + 30
    while any(job.is_running() and job.status() != psutil.STATUS_ZOMBIE for job in jobs):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(events(tmp_path, "begin")) == 1


UNTOUCHED = """
import torch
def touched(*_): raise SystemExit("the parent has touched the GPU, so forks cannot")
torch.cuda._lazy_init = torch.cuda.init = touched
from study.stages.side_by_side import SideBySide, preload
from tests.study.plan.made_records import PROFILE, planner
made = planner("none")
preload(made)
SideBySide(made, 2, 0, []).run()
"""


@pytest.mark.slow
def test_what_is_loaded_before_forks_touches_no_gpu(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", UNTOUCHED],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_device_says_how_many_runs_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = device()
    monkeypatch.setenv(AT_ONCE, "14")
    assert device() == f"{alone}, 14 runs at once"
