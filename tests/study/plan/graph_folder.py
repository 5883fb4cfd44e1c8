"""A folder in which tests call the graph, with stand-ins for the stages' notebooks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import psutil
import yaml

from study.plan.ownership import LOCK, OWNER
from study.plan.parameters import STAGES
from study.plan.plan import Planner
from study.plan.profile import read_profile
from study.plan.select import selected_points
from study.records.record import FINISHED, read_record, record_files
from tests.study.plan.made_records import PROFILE
from tests.study.plan.stand_in import check_artifacts, events

REPOSITORY = Path(__file__).resolve().parents[3]
LIMIT = 300
"""Seconds after which a call hangs: on a busy machine one takes a minute or two."""


class Graph:
    """A profile's graph in a folder of its own, called with some options."""

    def __init__(self, folder: Path, *options: str, **profile: Any) -> None:
        self.folder = folder.resolve()  # as a process sees it
        self.options = options
        self.calls = 0
        self.file, self.results, self.runs = "profiles/small.yml", "results", "runs"
        write_notebooks(self.folder / "notebooks")
        self.write_profile(**profile)

    def write_profile(self, **changes: Any) -> None:
        """A profile of six runs and a selection, or as changed."""
        path = self.folder / self.file
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(yaml.safe_dump({**PROFILE, "objectives": [], **changes}))

    def start(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """A call, in a process group of its own."""
        command = [sys.executable, "-m", "study", "graph", self.file]
        command += ["--results", self.results, "--runs", self.runs]
        ours = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        ours["QAPRUNE_STALE_SECONDS"] = "3"
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
        profile = read_profile(self.folder / self.file)
        return Planner(
            profile,
            results=os.path.join(self.folder, self.results),
            runs=os.path.join(self.folder, self.runs),
        )

    def plan(self) -> set[str]:
        """Ids of all runs that the profile asks for by now, and of its selection."""
        return {*self.planned(), *(each.id for each in self.planner.selections().values())}

    def planned(self) -> set[str]:
        """Ids of these runs alone."""
        planner = self.planner
        return {run.id for run in planner.plan(selected_points(planner))}

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
        """When each record was written, by its id."""
        place = self.planner.folder
        return {
            str(path.relative_to(place).with_suffix("")): path.stat().st_mtime_ns
            for path in record_files(place)
        }

    def measured(self) -> dict[str, dict[str, Any]]:
        """What each record says, but for when and in how many seconds."""
        once = {"started", "seconds"}
        return {
            run: read_record(self.planner.record_file(run)).model_dump(exclude=once)
            for run in self.records()
        }

    def run_folder(self, run: str) -> Path:
        """Where the model or scores of a run are."""
        return Path(self.planner.runs) / "embedded" / "small" / run

    def check_whole(self) -> None:
        """Every run's record is there, once and whole, none else, and so is its folder."""
        assert events(self.folder, "doubled") == []
        assert set(self.records()) == self.plan()
        for run in self.plan():
            read_record(self.planner.record_file(run))
        for run in self.planned():
            check_artifacts(self.run_folder(run))
        assert not [*self.folder.rglob(f"{LOCK}*")]
        assert len(list(Path(self.planner.runs).rglob(FINISHED))) == len(self.planned())

    def jobs(self) -> list[psutil.Process]:
        """Processes that a call in this folder has started."""
        found = []
        for process in psutil.process_iter():
            try:
                if str(self.folder) in process.environ().get(OWNER, ""):
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
        call = f"from tests.study.plan.stand_in import run\n\nrun({stage.stage!r}, globals())"
        real.cells = [*cells, nbformat.v4.new_code_cell(call)]
        nbformat.write(real, folder / f"{stage.notebook}.ipynb")
