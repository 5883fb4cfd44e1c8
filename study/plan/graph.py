"""Run a profile to its end: `python -m study graph profiles/embedded.yml`.

Snakemake keeps what is done in files, so the same call again makes what is missing, failed or was
cut off, and nothing else; a record that cannot be read is one that is missing. A call that was
killed (`kill -9`, a power cut) leaves a lock and perhaps jobs that go on without it: they are
cleared first, but not by a dry run, and never while another call runs in the same folder. What it
left half-written lies under temporary names, by which nothing is read.

Further options go to Snakemake as they are: `-n` only lists the runs, `--resources gpu=2` says how
many GPUs this machine has, `--profile profiles/slurm` hands the runs to a Slurm cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from qaprune_lib.errors import QapruneError, SettingsError
from study.plan.plan import Planner
from study.plan.profile import Profile, read_profile
from study.plan.status import profile_status

SNAKEFILE = Path(__file__).resolve().parents[2] / "Snakefile"
LOCKS = Path(".snakemake/locks")
JOB_OF = "QAPRUNE_GRAPH"
"""Environment variable by which the Snakefile marks its jobs with the folder that they run in."""

CALL = "call"
"""The one value of Snakemake's configuration: JSON in hex, as it would read paths as YAML."""
DRY_RUN = re.compile("--dry-?run|-[a-zA-Z]*n[a-zA-Z]*")

PLACES = {
    "source": "folder of the questions, where the profile names none",
    "results": "folder of records",
    "runs": "folder of models and executed notebooks",
    "notebooks": "folder of the stages' notebooks",
}
ELSEWHERE = ("--profile", "--workflow-profile", "--executor")
"""Options of Snakemake that may hand the runs to other machines."""


def clear_after_kill(command: Sequence[str]) -> None:
    """Undo what a killed call left in the current folder, unless another call runs here now.

    Args:
        command: the call of Snakemake, to which `--unlock` is added.

    Raises:
        subprocess.CalledProcessError: Snakemake could not remove the lock.
    """
    if alive := sorted(process.pid for process in running_calls()):
        _say(f"Snakemake runs here already (process {', '.join(map(str, alive))}): lock untouched")
    elif any(LOCKS.glob("*")):
        orphans = list(running_jobs())
        for process in orphans:
            _say(f"ending process {process.pid}, a job of a call that was killed")
            process.kill()
        psutil.wait_procs(orphans)
        _say("removing the lock of a call that was killed")
        subprocess.run([*command, "--unlock"], check=True)


def running_calls() -> Iterator[psutil.Process]:
    """Calls of Snakemake in the current folder, but for their jobs and for this process's own."""
    own, here = psutil.Process(), os.getcwd()
    family = {own.pid, *(parent.pid for parent in own.parents())}
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = [Path(word).name for word in process.info["cmdline"] or ()]
        is_call = "snakemake" in words or ("study" in words and "graph" in words)
        is_here = process.info["cwd"] == here and process.pid not in family
        if is_call and is_here and _folder_of_call(process) != here:
            yield process


def running_jobs() -> Iterator[psutil.Process]:
    """Processes that a call of Snakemake in the current folder has started, and their children."""
    here = os.getcwd()
    return (process for process in psutil.process_iter() if _folder_of_call(process) == here)


def _folder_of_call(job: psutil.Process) -> str | None:
    try:
        return job.environ().get(JOB_OF)
    except psutil.Error:  # of another user, or gone
        return None


def main(arguments: list[str] | None = None) -> int:
    """Command line; becomes Snakemake, whose exit status is 0 if all runs of the profile are there.

    Returns 2 if the profile cannot be read.
    """
    parser = argparse.ArgumentParser(
        prog="python -m study graph",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="%(prog)s PROFILE [options] [options of Snakemake]",
    )
    parser.add_argument("file", type=Path, metavar="PROFILE", help="profiles/NAME.yml")
    parser.add_argument("--cores", help="at most so many at a time (default: all of this machine)")
    for name, meaning in PLACES.items():
        parser.add_argument(f"--{name}", metavar="FOLDER", help=meaning)
    options, others = parser.parse_known_args(arguments)
    places = {name: value for name in PLACES if (value := getattr(options, name))}
    config = {"profile": str(options.file), **places}
    try:
        profile = read_profile(options.file, source=options.source)
        profile.check_sources()
        planner = planner_of(profile, config)
        damaged = damaged_records(planner)
    except QapruneError as error:
        _say(f"error: {error}")
        return 2
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
    command += ["--config", f"{CALL}={json.dumps(config).encode().hex()}"]
    if options.cores or not any(word.startswith(ELSEWHERE) for word in others):
        command += ["--cores", options.cores or "all"]
    if not any(DRY_RUN.fullmatch(word) for word in others):
        clear_after_kill(command)
    if damaged:
        command += ["--forcerun", *map(str, damaged)]
    sys.stdout.flush()
    os.execv(sys.executable, [*command, "--rerun-incomplete", "--keep-going", *others])


def given(config: Mapping[str, Any]) -> dict[str, str]:
    """What Snakemake was called with: by `main`, or `--config profile=FILE results=FOLDER …`."""
    if CALL in config:
        return dict(json.loads(bytes.fromhex(config[CALL])))
    return {name: str(value) for name, value in config.items()}


def planner_of(profile: Profile, config: Mapping[str, str]) -> Planner:
    """The plan of a call.

    Raises:
        SettingsError: a folder whose name Snakemake would not take as it is.
    """
    folders = {name: os.path.normpath(config.get(name, name)) for name in ("results", "runs")}
    for name, folder in folders.items():
        if set(folder) & set("{}\n"):
            raise SettingsError(f"--{name} {folder!r}: no braces or line breaks can be in it")
    return Planner(profile, **folders)


def damaged_records(planner: Planner) -> list[Path]:
    """Records that cannot be read, each said to be made again."""
    found = []
    for run in profile_status(planner):
        if run.is_damaged:
            found.append(planner.record_file(run.id))
            _say(f"made again: {run.id}: {run.state}")
    return found


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)  # noqa: T201
