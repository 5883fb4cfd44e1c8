"""Run a profile's runs side by side on one machine, for so many minutes.

`python -m study side-by-side profiles/measured.yml --jobs 8 --minutes 9`

What Snakemake does well without a clock, this does for a machine that is at hand for minutes: it
needs no packages but the library's own, loads them and the questions once, forks a process for
each run (several small runs share one GPU), starts nothing that cannot end in time, and stops what
has not ended. Each run writes its record as it ends, so a later call goes on from there.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import Any

from qaprune_lib.errors import RecordError
from study import command
from study.plan.ownership import own, watch_owner
from study.plan.parameters import StageParameters
from study.plan.plan import Planner
from study.plan.select import record_selection, selected_points
from study.records.environment import AT_ONCE
from study.records.record import read_record

ALONE = "time"
"""The stage that shares the machine with no other run."""
FORK: Any = multiprocessing.get_context("fork")
POLL = 0.2  # seconds
UNKNOWN = 45.0  # seconds that a run of a stage is thought to take before one has ended


@dataclass
class Job:
    """One run in a process of its own."""

    run: StageParameters
    process: Any
    started: float = field(default_factory=time.monotonic)


def execute(notebook: Path, parameters: dict[str, Any]) -> None:
    """Run the code cells of a stage's notebook here, but for its figures."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells:
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] == "code" and "figure" not in tags:
            exec(compile("".join(cell["source"]), str(notebook), "exec"), names)
        if "parameters" in tags:
            names |= parameters


def _child(notebook: Path, parameters: dict[str, Any], log: Path, at_once: int) -> None:
    if at_once > 1:
        os.environ[AT_ONCE] = str(at_once)
    log.parent.mkdir(parents=True, exist_ok=True)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    watch_owner()
    import torch

    torch.set_num_threads(1)
    try:
        execute(notebook, parameters)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


@dataclass
class SideBySide:
    """What is running, has run, and how long runs of each stage take."""

    planner: Planner
    jobs: int
    deadline: float
    patterns: Sequence[str]
    notebooks: Path = Path("notebooks")
    running: dict[str, Job] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def is_done(self, run: str) -> bool:
        """Whether a run's record, which is written last, is there and can be read."""
        if run not in self.done:
            try:
                read_record(self.planner.record_file(run))
            except RecordError:
                return False
            self.done.add(run)
        return True

    def select(self) -> None:
        """Make the selections whose candidates are all there."""
        for data, selection in self.planner.selections().items():
            name = selection.id
            if self.is_done(name) or name in self.failed:
                continue
            if all(map(self.is_done, selection.upstream())):
                # in a process of its own, as it asks for the device's name
                child = FORK.Process(target=record_selection, args=(self.planner, data))
                child.start()
                child.join()
                if child.exitcode == 0 and self.is_done(name):
                    say(f"selected {selected_points(self.planner)[data]}")
                else:
                    self.failed.add(name)
                    say(f"FAILED: {name}")

    def wanted(self) -> list[StageParameters]:
        """Runs to be done, of questions that are here, in the order of patterns and plan."""
        here = {name for name, data in self.planner.profile.data.items() if data.source is not None}
        runs = self.planner.plan(selected_points(self.planner))
        runs = [run for run in runs if run.data in here and not self.is_done(run.id)]
        if not self.patterns:
            return runs
        matching = [[run for run in runs if fnmatchcase(run.id, p)] for p in self.patterns]
        return [run for runs in matching for run in runs]

    def estimate(self, run: StageParameters) -> float:
        """Seconds that a run will take, as far as runs of its stage tell."""
        known = self.seconds[run.stage]
        return 1.15 * median(known) if known else UNKNOWN

    def startable(self) -> StageParameters | None:
        """The first run that can start now and end in time."""
        left = self.deadline - time.monotonic()
        alone = any(job.run.stage == ALONE for job in self.running.values())
        if len(self.running) >= self.jobs or alone:
            return None
        for run in self.wanted():
            if run.id in self.running or run.id in self.failed:
                continue
            if not all(map(self.is_done, run.upstream())):
                continue
            if (run.stage == ALONE and self.running) or self.estimate(run) > left:
                continue
            return run
        return None

    def start(self, run: StageParameters) -> None:
        """Fork a process for a run."""
        log = self.planner.run_folder / f"{run.id}.log"
        notebook = self.notebooks / f"{run.notebook}.ipynb"
        parameters = {**run.identity(), **run.place()}
        at_once = 1 if run.stage == ALONE else self.jobs
        process = FORK.Process(target=_child, args=(notebook, parameters, log, at_once))
        process.start()
        self.running[run.id] = Job(run, process)

    def reap(self) -> None:
        """Note what has ended."""
        for name, job in list(self.running.items()):
            if job.process.is_alive():
                continue
            del self.running[name]
            seconds = time.monotonic() - job.started
            if job.process.exitcode == 0 and self.is_done(name):
                self.seconds[job.run.stage].append(seconds)
                say(f"{seconds:5.0f} s  {name}")
            else:
                self.failed.add(name)
                say(f"FAILED after {seconds:.0f} s: {name} (exit {job.process.exitcode})")

    def run(self) -> None:
        """Until nothing is left to do, or the time is up."""
        while time.monotonic() < self.deadline:
            self.reap()
            self.select()
            while (run := self.startable()) is not None:
                self.start(run)
            if not self.running:
                break
            time.sleep(POLL)
        for name, job in self.running.items():
            job.process.kill()
            say(f"stopped: {name}")
        for job in self.running.values():
            job.process.join()


def preload(planner: Planner) -> None:
    """Import what runs need, and read SQuAD; nothing here touches a GPU, so that forks may."""
    import transformers
    from transformers import Trainer  # noqa: F401

    import qaprune_lib
    from qaprune_lib.models.architecture import ARCHITECTURES
    from study.stages import measure, stage_run  # noqa: F401
    from study.stages.questions import squad

    for architecture in ARCHITECTURES.values():
        getattr(transformers, architecture.question_answering)
    for name in ("finetune", "retrain", "prune", "scorers", "time_decoding", "Topology"):
        getattr(qaprune_lib, name)
    for data in planner.profile.data.values():
        if data.task == "squad" and data.source is not None:
            squad(data.source, data.version)


def say(message: str) -> None:
    """A line with the time."""
    command.say(f"{time.strftime('%H:%M:%S')} {message}")


@command.command
def main(arguments: Sequence[str] | None) -> int:
    """Command line; exit status 1 if a run failed, 2 if the profile cannot be read."""
    line = command.parser("side-by-side", __doc__, "profile", "source", "results", "runs")
    line.add_argument("--jobs", type=int, default=1, help="runs at a time")
    line.add_argument("--minutes", type=float, default=1e6, help="stop after so long")
    line.add_argument("--only", nargs="*", default=[], metavar="PATTERN", help="in this order")
    options = line.parse_args(arguments)
    deadline = time.monotonic() + 60 * options.minutes
    os.environ |= {"QAPRUNE_PROGRESS": "text", "TOKENIZERS_PARALLELISM": "false"}
    folders = {"results": options.results, "runs": options.runs}
    planner = Planner.read(options.profile, options.source, **folders)
    preload(planner)
    own([planner.run_folder, planner.folder])
    work = SideBySide(planner, options.jobs, deadline, options.only)
    say(f"loaded; {len(work.wanted())} runs are to be done")
    work.run()
    return 1 if work.failed else 0
