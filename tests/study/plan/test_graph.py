"""The graph of a profile's runs, run by Snakemake with stand-ins for the stages' notebooks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from study.plan.graph import leftovers
from study.plan.profile import Profile
from tests.experiment.made_records import PROFILE
from tests.graph_folder import LIMIT, Graph

KILLS = 5


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    made = Graph(tmp_path, "--cores", "2")
    yield made
    for process in made.jobs():
        process.kill()


def wait_until(condition: Callable[[], Any], running: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition() and running.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def end(call: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Send a signal to Snakemake and all that it started, but for kernels, which see it die."""
    with suppress(ProcessLookupError):  # it came to its end by itself
        os.killpg(call.pid, how)
    try:
        call.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(call.pid, signal.SIGKILL)
        call.wait()


@pytest.mark.slow
def test_killed_at_random_times_the_graph_finishes_the_rest(graph: Graph) -> None:
    seed = random.SystemRandom().randrange(1000)
    print("seed", seed)
    chance = random.Random(seed)
    hits = 0
    for kill in range(KILLS):
        call = graph.start(STAND_IN_SECONDS="0-0.5")
        if kill < KILLS - 1:  # time counted in events, so that a slow machine gets as far
            events = graph.n_events() + chance.randint(1, 4)
            wait_until(lambda n=events: graph.n_events() >= n, call)
            time.sleep(chance.uniform(0, 1))
        else:
            time.sleep(chance.uniform(0, 4))
        hits += call.poll() is None
        end(call, signal.SIGKILL if kill % 2 == 0 else signal.SIGTERM)
    print(f"{hits} calls killed; {len(graph.begun())} runs begun, {len(graph.ended())} ended")
    assert hits >= 2
    assert graph.call() == 0, graph.output
    graph.check_whole()

    before, begun = graph.records(), graph.begun()
    assert graph.call() == 0
    assert "Nothing to be done" in graph.output
    assert graph.records() == before

    # 0.4 loses too much: the selection is made again, and selects what it did
    shorter = graph.plan()
    longer = {"penalties": {"attn": [0.1, 0.2, 0.4], "ff": [0.001]}}
    graph.write_profile(**longer)
    assert graph.call() == 0, graph.output
    [new] = [run for run in graph.plan() - shorter if not run.startswith("select/")]
    assert graph.begun() == [*begun, new]
    assert {run: at for run, at in graph.records().items() if run in before} == before

    # a copy of the questions elsewhere, newer than all records
    copy = graph.folder / "copy" / "train-v2.0.json"
    copy.parent.mkdir()
    copy.touch()
    graph.write_profile(**longer, data={"squad2": {"source": str(copy.parent)}})
    assert graph.call() == 0
    assert graph.begun() == [*begun, new]


@pytest.mark.slow
def test_a_failed_run_keeps_its_notebook_and_is_tried_again(graph: Graph) -> None:
    failing = graph.folder / "failing"
    failing.write_text("score/squad2-l0-attn-0.2-")
    assert graph.call() != 0
    [failed] = set(graph.begun()) - set(graph.ended())
    assert failed.startswith(failing.read_text())
    # what does not build on it went on: the other scores, but no selection
    assert {run.partition("/")[0] for run in graph.records()} == {"finetune", "score"}
    assert set(graph.records()) == {
        run for run in graph.plan() if not run.startswith("select/")
    } - {failed}
    executed = graph.folder / "runs" / "embedded" / "small" / f"{failed}.ipynb"
    cells = json.loads(executed.read_text())["cells"]
    outputs = [out for cell in cells for out in cell.get("outputs", [])]
    [error] = [out for out in outputs if out["output_type"] == "error"]
    assert (error["ename"], error["evalue"]) == ("RuntimeError", f"{failed} was told to fail")
    assert "stand_in.py" in "".join(error["traceback"])
    assert f"RuntimeError: {failed} was told to fail" in graph.output

    begun = graph.begun()
    failing.unlink()
    assert graph.call() == 0, graph.output
    graph.check_whole()
    again = graph.begun()[len(begun) :]
    assert sorted(set(again) & set(begun)) == [failed]


@pytest.mark.slow
def test_a_lock_is_removed_only_when_its_process_is_dead(graph: Graph) -> None:
    first = graph.start(STAND_IN_SECONDS="99-99")
    wait_until(graph.begun, first)
    assert graph.call("--quiet") != 0
    assert f"(process {first.pid})" in graph.output
    assert first.poll() is None
    assert list((graph.folder / ".snakemake" / "locks").iterdir())

    first.kill()  # Snakemake alone: its job goes on
    first.wait()
    assert graph.jobs()
    assert graph.call() == 0, graph.output
    assert "a job of a call that was killed" in graph.output
    graph.check_whole()
    assert not graph.jobs()


def test_half_written_files_are_told_from_whole_ones(tmp_path: Path) -> None:
    whole = [
        "results/embedded/small/finetune/a.json",
        "results/embedded/small/finetune/.b.json",
        "results/embedded/other/finetune/.a.json.1.tmp",
        "runs/embedded/small/finetune/a.ipynb",
        "runs/embedded/small/finetune/a/dev_predictions.jsonl",
        "runs/embedded/small/finetune/a/model/.snakemake_timestamp",
        "runs/embedded/small/finetune/.ipynb_checkpoints/a.ipynb",
        "runs/embedded/other/finetune/a/.model/config.json",
    ]
    cut_short = [
        "results/embedded/small/finetune/.a.json.1.tmp",
        "runs/embedded/small/finetune/a/.dev_predictions.jsonl.77",
        "runs/embedded/small/finetune/a/.model/config.json",
        "runs/embedded/small/score/b/.scores.json.78",
    ]
    for name in [*whole, *cut_short]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = leftovers(Profile.model_validate(PROFILE), tmp_path / "results", tmp_path / "runs")
    expected = {name.removesuffix("/config.json") for name in cut_short}
    assert {str(path.relative_to(tmp_path)) for path in found} == expected


def test_a_missing_profile_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "study.plan.graph", "none.yml"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == "error: none.yml: no such profile\n"
