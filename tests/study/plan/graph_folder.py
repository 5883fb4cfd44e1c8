"""A folder in which tests call the graph, with stand-ins for the stages' notebooks."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import nbformat
import psutil
import yaml

from study.plan.graph import JOB_OF
from study.plan.parameters import STAGES
from study.plan.plan import Planner, record_file
from study.plan.profile import read_profile
from study.plan.select import selected_points
from study.plan.single_runs import id_of
from study.records.record import read_record
from tests.experiment.made_records import PROFILE
from tests.stand_in import check_artifacts, events

REPOSITORY = Path(__file__).resolve().parents[1]
LIMIT = 300
"""Seconds after which a call hangs: on a busy machine one takes a minute or two."""


class Graph:
    """A profile's graph in a folder of its own, called with some options."""

    def __init__(self, folder: Path, *options: str, **profile: Any) -> None:
        self.folder = folder.resolve()  # as a process sees it
        self.options = options
        self.calls = 0
        write_notebooks(self.folder / "notebooks")
        self.write_profile(**profile)

    def write_profile(self, **changes: Any) -> None:
        """A profile of six runs and a selection, or as changed."""
        path = self.folder / "profiles" / "small.yml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({**PROFILE, "objectives": [], **changes}))

    def start(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """A call, in a process group of its own."""
        command = [sys.executable, "-m", "study.plan.graph", "profiles/small.yml"]
        ours = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        self.calls += 1
        with open(self.folder / f"output{self.calls}", "wb") as output:
            return subprocess.Popen(
                [*command, *self.options, *options],
                cwd=self.folder,
                env={**os.environ, **ours, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def call(self, *options: str) -> int:
        """The exit status of a call."""
        return self.start(*options).wait(LIMIT)

    @property
    def output(self) -> str:
        """What the last call said."""
        return (self.folder / f"output{self.calls}").read_text()

    @property
    def planner(self) -> Planner:
        """The plan of the profile as it is now."""
        profile = read_profile(self.folder / "profiles" / "small.yml")
        return Planner(profile, results=f"{self.folder}/results", runs=f"{self.folder}/runs")

    def plan(self) -> set[str]:
        """Ids of all runs that the profile asks for by now."""
        planner = self.planner
        runs = {id_of(run) for run in planner.plan(selected_points(planner))}
        return runs | {selection.id for selection in planner.selections().values()}

    def begun(self) -> list[str]:
        """Ids of the runs that were begun so far."""
        return events(self.folder, "begin")

    def ended(self) -> list[str]:
        """Ids of the runs that came to their end so far."""
        return events(self.folder, "end")

    def n_events(self) -> int:
        """How many beginnings and ends of runs there were so far."""
        return len(self.begun()) + len(self.ended())

    def records(self) -> dict[str, int]:
        """When each file in the folder of records was written, by its path without `.json`."""
        place = record_file(self.planner, "").parent
        files = [path for path in place.rglob("*") if path.is_file()]
        return {
            str(path.relative_to(place)).removesuffix(".json"): path.stat().st_mtime_ns
            for path in files
        }

    def check_whole(self) -> None:
        """Every run's record is there, once and whole, none else, and nothing half-written."""
        plan = self.plan()
        assert set(self.records()) == plan
        for run in plan:
            read_record(record_file(self.planner, run))
        runs = self.folder / "runs" / "embedded" / "small"
        for stage in ("finetune", "score", "prune"):
            folders = [path for path in (runs / stage).iterdir() if path.is_dir()]
            made = {f"{stage}/{folder.name}" for folder in folders}
            assert made == {run for run in plan if run.startswith(stage)}
            for folder in folders:
                check_artifacts(folder)
                assert not list(folder.glob(".*"))
        # Snakemake looks for marks of unfinished runs before it knows those behind the checkpoint:
        # a kill between the end of one and the removal of its mark leaves it, with a whole run.
        marks = [path.name for path in (self.folder / ".snakemake" / "incomplete").iterdir()]
        for file in (urlsafe_b64decode(mark).decode() for mark in marks):
            stage, run = Path(file.removesuffix("/model")).parts[-2:]
            assert stage in ("prune", "time"), file
            assert f"{stage}/{run.removesuffix('.json')}" in self.ended()

    def jobs(self) -> list[psutil.Process]:
        """Processes that a call in this folder has started."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(JOB_OF) == str(self.folder):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def write_notebooks(folder: Path) -> None:
    """A notebook for each stage: the real one's parameters, and a call of `run`."""
    folder.mkdir(parents=True)
    for stage in STAGES.values():
        real = nbformat.read(REPOSITORY / "notebooks" / f"{stage.notebook}.ipynb", as_version=4)
        cells = [c for c in real.cells if "parameters" in c.metadata.get("tags", [])]
        call = f"from tests.stand_in import run\n\nrun({stage.stage!r}, globals())"
        real.cells = [*cells, nbformat.v4.new_code_cell(call)]
        nbformat.write(real, folder / f"{stage.notebook}.ipynb")
