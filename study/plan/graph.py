"""Run a profile to its end: `python -m study graph profiles/embedded.yml`.

Snakemake keeps what is done in files, so the same call again makes what is missing, failed or was
cut off, and nothing else. A call that was killed (`kill -9`, a power cut) leaves a lock, perhaps
jobs that go on without it, and half-written files under temporary names. They are cleared first,
but never while another call runs in the same folder.

Further options go to Snakemake as they are: `-n` only lists the runs, `--resources gpu=2` says how
many GPUs this machine has, `--profile profiles/slurm` hands the runs to a Slurm cluster.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from qaprune_lib.errors import QapruneError
from study.plan.profile import Profile, read_profile

SNAKEFILE = Path(__file__).resolve().parents[2] / "Snakefile"
LOCKS = Path(".snakemake/locks")
JOB_OF = "QAPRUNE_GRAPH"
"""Environment variable by which the Snakefile marks its jobs with the folder that they run in."""

PLACES = {
    "source": "folder of the questions, where the profile names none",
    "results": "folder of records",
    "runs": "folder of models and executed notebooks",
    "notebooks": "folder of the stages' notebooks",
}
ELSEWHERE = ("--profile", "--workflow-profile", "--executor")
"""Options of Snakemake that may hand the runs to other machines."""


def clear_after_kill(profile: Profile, command: Sequence[str], results: Path, runs: Path) -> None:
    """Undo what a killed call left in the current folder, unless another call runs here now.

    Args:
        profile: whose half-written files are removed.
        command: the call of Snakemake, to which `--unlock` is added.
        results: folder of records. runs: folder of models.

    Raises:
        subprocess.CalledProcessError: Snakemake could not remove the lock.
    """
    if alive := sorted(process.pid for process in running_calls()):
        _say(f"Snakemake runs here already (process {', '.join(map(str, alive))}): lock untouched")
        return
    if any(LOCKS.glob("*")):
        orphans = list(running_jobs())
        for process in orphans:
            _say(f"ending process {process.pid}, a job of a call that was killed")
            process.kill()
        psutil.wait_procs(orphans)
        _say("removing the lock of a call that was killed")
        subprocess.run([*command, "--unlock"], check=True)
    for path in leftovers(profile, results, runs):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


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


def leftovers(profile: Profile, results: Path, runs: Path) -> list[Path]:
    """Half-written files and folders of a profile: their names begin with a dot until whole."""
    place = Path(profile.provenance) / profile.name
    return [*(results / place).glob("*/.*.tmp"), *(runs / place).glob("*/[!.]*/.*")]


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
    try:
        profile = read_profile(options.file)
    except QapruneError as error:
        _say(f"error: {error}")
        return 2
    places = {name: getattr(options, name) for name in PLACES if getattr(options, name)}
    config = {"profile": options.file, **places}
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
    command += ["--config", *(f"{name}={value}" for name, value in config.items())]
    if options.cores or not any(word.startswith(ELSEWHERE) for word in others):
        command += ["--cores", options.cores or "all"]
    results, runs = Path(options.results or "results"), Path(options.runs or "runs")
    clear_after_kill(profile, command, results, runs)
    sys.stdout.flush()
    os.execv(sys.executable, [*command, "--rerun-incomplete", "--keep-going", *others])


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)  # noqa: T201
