"""A bundle carried to a machine without a network, run there, and taken in again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from study.plan.plan import Planner
from study.plan.profile import read_profile
from study.plan.select import selected_points
from study.records.record import FINISHED, read_records
from tests.study.plan.graph_folder import REPOSITORY

TRAINING = {"epochs": 1, "max_steps": 1, "batch_size": 4}
PROFILE = {
    "name": "tiny",
    "provenance": "embedded",
    "data": {
        "squad2": {
            "source": "embedded",
            "train_questions": 12,
            "heldout_questions": 4,
            "dev_questions": 4,
        }
    },
    "base": "embedded-small",
    "windows": {"max_length": 96, "doc_stride": 48},
    "finetune": TRAINING,
    "curves": {"fractions": [0.5], "curve_questions": 2},
    "scorers": [{"scorer": "random", "kinds": ["attn"]}],
    "gates": {**TRAINING, "questions": 4},
    "penalties": {"attn": [0.1]},
    "multiples": [1],
    "objectives": ["cross_entropy"],
    "control_objectives": [],
    "retrain": {**TRAINING, "questions": 4},
    "timing": {"repeats": 1, "max_questions": 2},
}


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=tester", "-c", "user.email=tester@localhost")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def study(folder: Path, *arguments: str) -> str:
    """Output of a command of the study that is in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "study", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This tree, all of it committed."""
    if shutil.which("git") is None:
        pytest.skip("a bundle is made of a commit, and there is no git")
    folder = tmp_path_factory.mktemp("home") / "project"
    ignored = shutil.ignore_patterns(".git", ".venv*", "runs", "results", "__pycache__", ".*cache")
    shutil.copytree(REPOSITORY, folder, ignore=ignored)
    (folder / "profiles" / "tiny.yml").write_text(json.dumps(PROFILE))
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all")
    return folder


@pytest.mark.slow
def test_there_and_back(clean: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "a bundle"
    chosen = ("finetuned/*", "figure*/*", "table2/*/pruned/*", "table2/*/cross-entropy/*")
    called = study(
        clean, "bundle", "profiles/tiny.yml", "--to", str(bundle), "--runs", *chosen
    ).splitlines()
    assert not (bundle / "project" / ".git").exists()
    alone = ["unshare", "-rn"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        alone = []  # not allowed here
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours = ("PYTHONPATH", "QAPRUNE", "HF")
    bare = {k: v for k, v in os.environ.items() if not k.startswith(ours)}

    def run(minutes: float) -> float:
        began = time.monotonic()
        done = subprocess.run(
            [*alone, bundle / "run.sh", "--minutes", str(minutes), "--jobs", "2"],
            cwd="/",
            env={**bare, "PATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "FAILED" not in done.stdout, done.stdout + done.stderr
        return time.monotonic() - began

    run(0.1)  # nothing that could end in it
    assert not list(bundle.rglob("results/**/*.json"))
    assert run(15) < 15 * 60
    records = read_records(bundle / "results")
    planner = Planner(read_profile(clean / "profiles" / "tiny.yml"), str(bundle / "results"))
    planned = {run.id for run in planner.plan(selected_points(planner))}
    assert set(called) <= planned
    assert planned <= {record.id for record in records}
    began = {record.id: datetime.fromisoformat(record.started) for record in records}
    spans = sorted((began[r.id], began[r.id] + timedelta(seconds=r.seconds)) for r in records)
    assert any(a[1] > b[0] for a, b in pairwise(spans))  # side by side

    report = study(clean, "merge", str(bundle / "out"))
    assert f"{len(records)} new records, 0 that were here" in report
    merged = read_records(clean / "results")
    assert merged == records
    [head] = {record.commit for record in merged}
    assert head == (bundle / "project" / "COMMIT").read_text().strip()
    assert not any(record.dirty for record in merged)
    marks = {p.relative_to(clean / "runs") for p in (clean / "runs").rglob(FINISHED)}
    assert marks == {p.relative_to(bundle / "runs") for p in (bundle / "runs").rglob(FINISHED)}
    assert f"0 new records, {len(records)} that were here" in study(
        clean, "merge", str(bundle / "out")
    )
