"""Run a profile to its end: `python -m study graph profiles/embedded.yml`.

Snakemake keeps what is done in files, so the same call again makes what is missing, failed or was
cut off, and nothing else; a record that cannot be read is one that is missing. One call at a time
makes the runs of a profile, wherever it runs (`study.plan.ownership`): after a call that was killed
(`kill -9`, a power cut) the next one waits until the jobs of that have ended themselves, and goes
on from there. What it left half-written lies under temporary names, by which nothing is read.

Further options go to Snakemake as they are: `-n` only lists the runs, `--resources gpu=2` says how
many GPUs this machine has, `--profile profiles/slurm` hands the runs to a Slurm cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qaprune_lib.errors import RecordError, SettingsError
from study.command import command, note, parser
from study.plan.ownership import own
from study.plan.plan import Planner
from study.plan.profile import Profile, read_profile
from study.plan.status import profile_status
from study.records.record import HASH_LENGTH, read_record, record_files

SNAKEFILE = Path(__file__).resolve().parents[2] / "Snakefile"
CALL = "call"
"""The one value of Snakemake's configuration: JSON in hex, as it would read paths as YAML."""

ELSEWHERE = ("--profile", "--workflow-profile", "--executor")
"""Options of Snakemake that may hand the runs to other machines."""


@command
def main(arguments: Sequence[str] | None) -> None:
    """Command line; becomes Snakemake, whose exit status is 0 if all runs are there."""
    line = parser(
        *("graph", __doc__, "profile", "source", "results", "runs", "notebooks"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="%(prog)s PROFILE [options] [options of Snakemake]",
    )
    line.add_argument("--cores", help="at most so many at a time (default: all of this machine)")
    options, others = line.parse_known_args(arguments)
    cores = vars(options).pop("cores")
    config = given(vars(options))
    profile = read_profile(options.profile, source=options.source)
    profile.check_sources()
    planner = planner_of(profile, config)
    damaged = [run for run in profile_status(planner) if run.is_damaged]
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
    words += ["--config", f"{CALL}={json.dumps(config).encode().hex()}"]
    if cores or not any(word.startswith(ELSEWHERE) for word in others):
        words += ["--cores", cores or "all"]
    # its own locks and marks of unfinished runs are known in one folder alone, and need a hand
    # after a kill; here one call makes the runs, and a record is written last and whole
    words += ["--nolock", "--ignore-incomplete"]
    if damaged:
        words += ["--forcerun", *(str(planner.record_file(run.id)) for run in damaged)]
    for run in damaged:
        note(f"made again: {run.id}: {run.state}")
    sys.stdout.flush()
    os.execv(sys.executable, [*words, "--keep-going", *others])


def given(config: Mapping[str, Any]) -> dict[str, str]:
    """What Snakemake was called with: by `main`, or `--config profile=FILE results=FOLDER …`."""
    if CALL in config:
        return dict(json.loads(bytes.fromhex(config[CALL])))
    return {name: str(value) for name, value in config.items() if value is not None}


def planner_of(profile: Profile, config: Mapping[str, str]) -> Planner:
    """The plan of a call."""
    results, runs = (os.path.normpath(config.get(name, name)) for name in ("results", "runs"))
    for folder in (results, runs):
        if set(folder) & set("{}\n"):
            raise SettingsError(f"{folder!r}: no braces or line breaks can be in a folder's name")
    return Planner(profile, results, runs)


def begin(planner: Planner) -> None:
    """Own the runs of a profile until this process ends, and set damaged records aside."""
    own([planner.run_folder, planner.folder])
    for path in record_files(planner.folder):
        if not re.fullmatch(f".+-[0-9a-f]{{{HASH_LENGTH}}}", path.stem):
            continue  # no record of ours, whatever it is
        try:
            read_record(path)
        except RecordError as error:
            aside = path.replace(path.with_name(f".{path.name}.damaged"))
            note(f"set aside as {aside.name}: {error}")
