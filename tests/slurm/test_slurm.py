"""A small sweep through Slurm, with the cluster profile as users have it: `make test-slurm`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from study.plan.parameters import Finetune
from study.plan.select import selected_points
from study.records.record import read_record
from tests.study.plan.graph_folder import REPOSITORY, Graph

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "QAPRUNE_SLURM" not in os.environ, reason="only make test-slurm starts a Slurm to submit to"
    ),
]
OPTIONS = ("--profile", str(REPOSITORY / "profiles" / "slurm"))
QUICKLY = ("--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "5")
RESOURCES = {
    "finetune": {"threads": 2, "gpu": 2, "mem_mb": 700, "minutes": 7},
    "score": {"threads": 1, "gpu": 1, "mem_mb": 300, "minutes": 65},
    "prune": {"threads": 1, "gpu": 0, "mem_mb": 200, "minutes": 3},
    "time": {"threads": 2, "gpu": 1, "mem_mb": 250, "minutes": 4},
}


def jobs() -> list[dict[str, str]]:
    """What Slurm says of all jobs that it remembers."""
    command = ["scontrol", "show", "job", "--oneliner"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    fields = [[word.partition("=") for word in line.split()] for line in lines]
    return [{name: value for name, _, value in words} for words in fields]


def asked_for(job: dict[str, str]) -> dict[str, int]:
    """A job's resources in the units of a profile."""
    hours, minutes, seconds = map(int, job["TimeLimit"].split(":"))
    assert seconds == 0
    assert job["MinMemoryNode"].endswith("M")
    return {
        "threads": int(job["CPUs/Task"]),
        "gpu": int(job.get("TresPerJob", "gres:gpu:0").removeprefix("gres:gpu:")),
        "mem_mb": int(job["MinMemoryNode"].removesuffix("M")),
        "minutes": 60 * hours + minutes,
    }


def test_a_sweep_runs_as_jobs_with_the_resources_of_its_profile(tmp_path: Path) -> None:
    before = {job["JobId"] for job in jobs() if "JobId" in job}
    graph = Graph(tmp_path, *OPTIONS, *QUICKLY, resources=RESOURCES)
    assert graph.call() == 0, graph.output
    graph.check_whole()

    found = [job for job in jobs() if job["JobId"] not in before]
    by_run = {job["Comment"].removeprefix("rule_run_wildcards_"): job for job in found}
    # the selection alone is not worth a job
    planner = graph.planner
    stages = {run.id.replace("/", "_"): run.stage for run in planner.plan(selected_points(planner))}
    assert set(by_run) == set(stages)
    for run, job in by_run.items():
        print(run, job["JobState"], asked_for(job))
        assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0")
        assert asked_for(job) == RESOURCES[stages[run]]

    assert graph.call() == 0
    assert "Nothing to be done" in graph.output
    assert len(jobs()) == len(before) + len(found)


def test_a_failed_job_keeps_its_notebook(tmp_path: Path) -> None:
    graph = Graph(tmp_path, *OPTIONS, *QUICKLY)
    (tmp_path / "failing").write_text("finetuned/")
    assert graph.call() != 0
    [failed] = graph.begun()
    executed = graph.run_folder(failed) / "notebook.ipynb"
    assert f"{failed} was told to fail" in executed.read_text()
    assert graph.records() == {}


def test_a_real_stage(tmp_path: Path) -> None:
    few: dict[str, Any] = {"train_questions": 24, "heldout_questions": 6, "dev_questions": 6}
    graph = Graph(
        tmp_path,
        *OPTIONS,
        *QUICKLY,
        data={"squad2": {"source": "embedded", **few}},
        finetune={"max_steps": 2, "batch_size": 4},
        windows={"max_length": 96, "doc_stride": 48},
    )
    [finetune] = [run for run in graph.planner.plan() if isinstance(run, Finetune)]
    record = graph.planner.record_file(finetune.id)
    target = str(record.relative_to(graph.folder))
    assert graph.call("--notebooks", str(REPOSITORY / "notebooks"), target) == 0, graph.output
    metrics: Any = read_record(record).metrics
    assert metrics["training"]["steps"] == 2
    assert metrics["dev"]["fitted"]["total"] == 6
