"""Which runs a profile has, and which it lacks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qaprune_lib.errors import QapruneError, RecordError
from study.plan.plan import Planner
from study.plan.profile import read_profile
from study.plan.select import selected_points
from study.plan.subject import OperatingPoint
from study.records.lineage import changed_since
from study.records.record import Record, read_record, record_files


@dataclass(frozen=True)
class RunStatus:
    """One run of a profile.

    Attributes:
        id: of the run.
        state: "complete", "missing", or why its record cannot be used.
        record: if it is complete.
    """

    id: str
    state: str
    record: Record | None = None

    @property
    def is_damaged(self) -> bool:
        """Whether there is a record that cannot be used."""
        return self.state not in ("complete", "missing")


def profile_status(
    planner: Planner, points: Mapping[str, OperatingPoint] | None = None
) -> list[RunStatus]:
    """The state of every run that the profile asks for.

    What follows from a selection that is not there yet is counted as the selection alone.

    Args:
        planner: of the profile.
        points: the selected operating points; by default those that are recorded.
    """
    found = []
    selections = planner.selections().values()
    points = selected_points(planner) if points is None else points
    ids = [*(run.id for run in planner.plan(points)), *(choice.id for choice in selections)]
    for run in ids:
        path = planner.record_file(run)
        if not path.is_file():
            found.append(RunStatus(run, "missing"))
            continue
        try:
            record = read_record(path)
        except RecordError as error:
            found.append(RunStatus(run, f"damaged: {error}"))
        else:
            found.append(RunStatus(record.id, "complete", record))
    return found


def unplanned(
    planner: Planner, points: Mapping[str, OperatingPoint] | None = None
) -> list[str]:
    """Ids of recorded runs that the profile does not ask for, or has under another name as well.

    None while a selection is missing: what follows from it cannot be told from them.
    """
    points = selected_points(planner) if points is None else points
    if len(points) < len(planner.selections()):
        return []
    known = {run.id for run in profile_status(planner, points)}
    files = [path.relative_to(planner.folder) for path in record_files(planner.folder)]
    return [run for run in (str(file.with_suffix("")) for file in files) if run not in known]


def main(arguments: list[str] | None = None) -> int:
    """Command line: `python -m study status profiles/embedded.yml`.

    Exit status 1 if anything is missing or damaged; runs that were not planned are only listed.
    """
    parser = argparse.ArgumentParser(prog="python -m study status", description=__doc__)
    parser.add_argument("profiles", nargs="+", type=Path, help="profiles/NAME.yml")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records")
    parser.add_argument("--source", help="folder of the questions")
    options = parser.parse_args(arguments)
    lacking = 0
    try:
        for path in options.profiles:
            profile = read_profile(path, source=options.source)
            planner = Planner(profile, results=str(options.results))
            points = selected_points(planner)
            runs = profile_status(planner, points)
            complete = [run for run in runs if run.record is not None]
            lacking += len(runs) - len(complete)
            for run in runs:
                _say(f"{run.state:10} {run.id}{_made(run.record)}")
            for name in unplanned(planner, points):
                _say(f"{'unplanned':10} {name}: in the figures until its record is deleted")
            _say(f"{path}: {len(complete)} of {len(runs)} runs are complete")
    except QapruneError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 1 if lacking else 0


def _made(record: Record | None) -> str:
    if record is None or record.commit is None:
        return ""
    since = changed_since(record.commit)
    changes = "" if since is None else f", {since} files of the library changed since"
    return f"  (made at {record.commit[:8]}{changes})"


def _say(text: str) -> None:
    print(text)  # noqa: T201
