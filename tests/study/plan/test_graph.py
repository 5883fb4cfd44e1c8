"""The graph of a profile's runs, run by Snakemake with stand-ins for the stages' notebooks."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from study.plan.graph import main
from study.plan.ownership import LOCK
from study.plan.select import selected_points
from study.records.record import read_record
from tests.study.plan.graph_folder import Graph
from tests.study.plan.killed_at_random import WAYS, start_and_kill, wait_until
from tests.study.plan.made_records import PROFILE
from tests.study.plan.stand_in import metrics_of


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    made = Graph(tmp_path, "--cores", "2")
    yield made
    for process in made.jobs():
        process.kill()


@pytest.mark.slow
def test_killed_at_random_times_the_graph_finishes_the_rest(graph: Graph) -> None:
    seed = random.SystemRandom().randrange(1000)
    print("seed", seed)
    chance = random.Random(seed)
    hits = sum(start_and_kill(graph, chance, how) for how in WAYS)
    print(f"{hits} calls killed; {len(graph.begun())} runs begun, {len(graph.ended())} ended")
    assert hits >= 2
    assert graph.call() == 0, graph.output
    graph.check_whole()
    planner = graph.planner
    for run in planner.plan(selected_points(planner)):  # as if nothing had disturbed it
        assert read_record(planner.record_file(run.id)).metrics == metrics_of(run)

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
    assert "error: '{x}': no braces" in graph.output


@pytest.mark.slow
def test_what_failed_or_is_damaged_is_made_again(graph: Graph) -> None:
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

    begun = graph.begun()
    [selection] = graph.plan() - graph.planned()
    [scored] = [run for run in begun if "l0-attn-0.1" in run]
    [pruned] = [run for run in begun if "/pruned/" in run]  # known once there is a selection
    paths = [graph.planner.record_file(run) for run in (selection, scored, pruned)]
    cut_short(paths[0])

    cut_short(paths[1])
    cut_short(paths[2])
    other = paths[1].with_name("notes.json")
    other.write_text("no record at all")
    damaged = [path.read_text() for path in paths]
    assert graph.call("-n") == 0
    assert f"made again: {selection}: damaged: " in graph.output
    assert [path.read_text() for path in paths] == damaged
    assert graph.call() == 0, graph.output
    assert other.read_text() == "no record at all"
    other.unlink()
    graph.check_whole()
    again = graph.begun()[len(begun) :]
    assert scored in again
    assert all(run.startswith("table2/") for run in set(again) - {scored})


@pytest.mark.slow
def test_one_call_makes_the_runs_wherever_it_is_started(graph: Graph, tmp_path: Path) -> None:
    """Another folder stands for another container or host: nothing but the files is looked at."""
    other = Graph(tmp_path / "elsewhere", "--cores", "1")
    other.results, other.runs = str(graph.folder / "results"), str(graph.folder / "runs")
    first = graph.start(STAND_IN_SECONDS="99-99")
    wait_until(graph.begun, first)
    for again in (graph, other):
        assert again.call("--quiet") != 0
        assert f"process {first.pid} on {socket.gethostname()} makes these runs" in again.output
    assert first.poll() is None

    first.kill()  # Snakemake alone: its jobs go on, for now
    first.wait()
    jobs = {job.pid for job in graph.jobs()}
    locks = {path: path.stat().st_mtime_ns for path in graph.folder.rglob(LOCK)}
    (graph.folder / "results" / ".other.tmp").touch()
    assert jobs
    assert len(locks) == 2
    assert other.call("--dry-run", "--quiet") == 0, other.output
    assert {path: path.stat().st_mtime_ns for path in graph.folder.rglob(LOCK)} == locks
    assert other.call() == 0, other.output
    assert f"process {first.pid} on {socket.gethostname()}" in other.output
    assert "was killed: going on" in other.output
    assert (graph.folder / "results" / ".other.tmp").exists()
    assert not graph.jobs()
    assert len(other.begun()) == len(other.ended()) == len(graph.planned())
    assert not graph.ended()
    graph.check_whole()


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
