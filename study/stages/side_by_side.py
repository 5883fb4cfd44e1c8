"""Run a profile's runs side by side on one machine, fast, or for so many minutes.

`python -m study side-by-side profiles/measured.yml --jobs 8 --minutes 9`

Where `study graph` starts a kernel for each notebook, on any number of machines, this loads
packages and questions once and forks a process for each run, so that many small runs end sooner,
and several share one GPU. It needs no packages but the library's own, starts nothing that cannot
end in time, and stops what has not ended. Each run writes its record as it ends, so a later call
goes on from there.
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
from multiprocessing.connection import wait
from pathlib import Path
from statistics import median
from typing import Any

from qaprune_lib.errors import RecordError
from qaprune_lib.progress import tqdm
from study import command
from study.plan.ownership import own, watch_owner
from study.plan.parameters import StageParameters
from study.plan.plan import Planner
from study.plan.select import record_selection, selected_points
from study.records.environment import AT_ONCE
from study.records.record import FINISHED, read_record

ALONE = "time"
"""The stage that shares the machine with no other run."""
FORK: Any = multiprocessing.get_context("fork")
LOOK = 10.0  # seconds after which the time left is told anew, though no run has ended
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


def _child(
    notebook: Path, parameters: dict[str, Any], log: Path, at_once: int, threads: int
) -> None:
    if at_once > 1:
        os.environ[AT_ONCE] = str(at_once)
    log.parent.mkdir(parents=True, exist_ok=True)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    watch_owner()
    import torch

    torch.set_num_threads(threads)
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

    def has_files(self, run: str) -> bool:
        """Whether a run's folder is whole, so that others can build on it."""
        return (self.planner.run_folder / run / FINISHED).is_file()

    def wanted(self) -> list[StageParameters]:
        """Runs to be done, of questions that are here, in the order of patterns and plan.

        Those that have a record, but no model or scores any more, are done again where others
        build on them.
        """
        here = {name for name, data in self.planner.profile.data.items() if data.source is not None}
        runs = self.planner.plan(selected_points(self.planner))
        runs = [run for run in runs if run.data in here]
        wanted = [run for run in runs if not self.is_done(run.id)]
        if self.patterns:
            matching = [[run for run in wanted if fnmatchcase(run.id, p)] for p in self.patterns]
            wanted = [run for runs in matching for run in runs]
        needed = {run.id for run in wanted}
        for run in reversed(runs):
            if run.id in needed:
                needed |= {u for u in run.upstream() if self.is_done(u) and not self.has_files(u)}
        again = needed - {run.id for run in wanted}
        return [run for run in runs if run.id in again] + wanted

    def estimate(self, run: StageParameters) -> float:
        """Seconds that a run will take, as far as runs of its stage tell."""
        known = self.seconds[run.stage]
        return 1.15 * median(known) if known else UNKNOWN

    def slots(self, run: StageParameters) -> int:
        """How many of the jobs at a time a run stands for."""
        threads = self.planner.profile.resources_of(run.stage).threads
        return self.jobs if run.stage == ALONE else min(threads, self.jobs)

    def minutes_left(self, wanted: Sequence[StageParameters]) -> float:
        """About how long the wanted runs will take, as far as runs of their stages tell."""
        seconds = sum(self.estimate(run) * self.slots(run) for run in wanted)
        return seconds / self.jobs / 60

    def startable(self) -> StageParameters | None:
        """The first run that can start now and end in time."""
        left = self.deadline - time.monotonic()
        free = self.jobs - sum(self.slots(job.run) for job in self.running.values())
        for run in self.wanted() if free > 0 else ():
            if run.id in self.running or run.id in self.failed:
                continue
            above = run.upstream()
            if not all(self.is_done(name) and self.has_files(name) for name in above):
                continue
            if self.slots(run) > free:
                return None  # what is smaller would keep it waiting
            if self.estimate(run) <= left:
                return run
        return None

    def start(self, run: StageParameters) -> None:
        """Fork a process for a run."""
        if self.is_done(run.id):
            command.note(
                f"made again, as its model or scores are gone: {run.id}; on another device these "
                "are others, and records that were built on the former stay"
            )
        log = self.planner.run_folder / f"{run.id}.log"
        notebook = self.notebooks / f"{run.notebook}.ipynb"
        parameters = {**run.identity(), **run.place()}
        at_once = 1 if run.stage == ALONE else self.jobs
        process = FORK.Process(
            target=_child, args=(notebook, parameters, log, at_once, self.slots(run))
        )
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
        with tqdm(desc=self.planner.profile.name, unit="run", disable=not _is_watched()) as bar:
            while time.monotonic() < self.deadline:
                self.reap()
                self.select()
                while (run := self.startable()) is not None:
                    self.start(run)
                if not self.running:
                    break
                wanted = self.wanted()
                bar.n = sum(map(len, self.seconds.values()))
                bar.total = bar.n + len(wanted)
                bar.set_postfix_str(f"about {self.minutes_left(wanted):.0f} min left")
                ends = [job.process.sentinel for job in self.running.values()]
                wait(ends, timeout=min(LOOK, max(0.0, self.deadline - time.monotonic())))
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


def _is_watched() -> bool:
    return sys.stderr.isatty()


def say(message: str) -> None:
    """A line with the time; of what went well, only where no bar tells it."""
    if not _is_watched() or "FAILED" in message:
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
