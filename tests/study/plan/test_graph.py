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

from study.plan.graph import DRY_RUN, SNAKEFILE, main
from tests.study.plan.graph_folder import LIMIT, REPOSITORY, Graph
from tests.study.plan.made_records import PROFILE

KILLS = 4


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
    shorter = graph.planned()
    graph.write_profile(penalties={"attn": [0.1, 0.2, 0.4], "ff": [0.001]})
    assert graph.call() == 0, graph.output
    [new] = graph.planned() - shorter
    assert graph.begun() == [*begun, new]
    assert {run: at for run, at in graph.records().items() if run in before} == before


def cut_short(path: Path) -> None:
    path.write_text(path.read_text()[:-20])


@pytest.mark.slow
def test_damaged_records_are_made_again(graph: Graph) -> None:
    assert graph.call() == 0, graph.output
    begun = graph.begun()
    [selection] = graph.plan() - graph.planned()
    [scored] = [run for run in begun if "l0-attn-0.1" in run]
    paths = [graph.planner.record_file(run) for run in (selection, scored)]
    cut_short(paths[0])

    # Snakemake by itself sees a file that is there: it must not call that a success
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--cores", "1"]
    alone = subprocess.run(
        [*command, "--config", f"profile={graph.file}"],
        cwd=graph.folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert alone.returncode != 0
    assert f"{selection}.json cannot be read" in alone.stderr

    cut_short(paths[1])
    damaged = [path.read_text() for path in paths]
    assert graph.call("-n") == 0
    assert f"made again: {selection}: damaged: " in graph.output
    assert [path.read_text() for path in paths] == damaged
    assert graph.call() == 0, graph.output
    graph.check_whole()
    again = graph.begun()[len(begun) :]
    assert scored in again
    assert all(run.startswith("table2/") for run in set(again) - {scored})
    assert graph.call() == 0
    assert "Nothing to be done" in graph.output


PLACE = "a $(touch hit); `touch hit` 'it''s' \"it\" & #1 *"


@pytest.mark.slow
def test_names_of_folders_and_models_do_nothing_but_name(tmp_path: Path) -> None:
    graph = Graph(tmp_path, "--cores", "2", "--source", PLACE, "--notebooks", f"{PLACE}/n")
    graph.file, graph.results, graph.runs = f"{PLACE}/p.yml", f"{PLACE}/r", f"{PLACE}/../{PLACE}/m"
    model = "../$(touch hit)/`touch hit`; touch hit"
    graph.write_profile(base=model, others={"-x/'": {"data": ["squad2"]}})
    (graph.folder / "notebooks").rename(graph.folder / PLACE / "n")
    assert graph.call() == 0, graph.output
    graph.check_whole()
    assert {path.name for path in tmp_path.iterdir()} <= {
        *(PLACE, ".snakemake", "profiles", "events", "output1"),
    }
    assert not list(tmp_path.rglob("hit"))
    graph.results = "{x}"
    assert graph.call() == 2
    assert "error: --results '{x}': no braces" in graph.output


@pytest.mark.slow
def test_a_failed_run_keeps_its_notebook_and_is_tried_again(graph: Graph) -> None:
    failing = graph.folder / "failing"
    failing.write_text("figure1/squad2/embedded/l0-attn-0.2/")
    assert graph.call() != 0
    [failed] = set(graph.begun()) - set(graph.ended())
    assert failed.startswith(failing.read_text())
    # what does not build on it went on: the other scores, but no selection
    assert set(graph.records()) == graph.planned() - {failed}
    executed = graph.run_folder(failed) / "notebook.ipynb"
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
    jobs = {job.pid for job in graph.jobs()}
    locks = sorted((graph.folder / ".snakemake" / "locks").iterdir())
    (graph.folder / "results" / ".other.tmp").touch()
    assert jobs
    assert graph.call("--dry-run", "--quiet") == 0, graph.output
    assert {job.pid for job in graph.jobs()} == jobs
    assert sorted((graph.folder / ".snakemake" / "locks").iterdir()) == locks
    assert graph.call() == 0, graph.output
    assert (graph.folder / "results" / ".other.tmp").exists()
    assert "a job of a call that was killed" in graph.output
    graph.check_whole()
    assert not graph.jobs()


@pytest.mark.parametrize(
    ("word", "is_dry"),
    [
        *((word, True) for word in ("-n", "--dry-run", "--dryrun", "-np", "-pn")),
        *((word, False) for word in ("--nolock", "-p", "-c2", "--printshellcmds", "results/n")),
    ],
)
def test_a_dry_run_is_told_from_others(word: str, is_dry: bool) -> None:
    assert bool(DRY_RUN.fullmatch(word)) == is_dry


def test_a_missing_profile_is_named(tmp_path: Path, capsys: Any) -> None:
    assert main([f"{tmp_path}/none.yml"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/none.yml: no such profile")


def test_questions_without_a_source_are_named(tmp_path: Path, capsys: Any) -> None:
    """Their runs can be named by a pinned origin, but not made."""
    profile = tmp_path / "p.yml"
    data = {"squad2": {"origin": "files:0011"}}
    profile.write_text(json.dumps({**PROFILE, "provenance": "measured", "data": data}))
    assert main([str(profile)]) == 2
    assert "data 'squad2' has no source" in capsys.readouterr().err
