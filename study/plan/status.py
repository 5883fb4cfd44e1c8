"""Which runs a profile has, and which it lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from qaprune_lib.errors import RecordError
from study.command import command, parser, say
from study.plan.plan import Planner
from study.plan.select import selected_points
from study.plan.subject import OperatingPoint
from study.records.lineage import changed_since
from study.records.record import Record, read_record, record_files


class RunStatus(NamedTuple):
    """A run of a profile: "complete" with its record, "missing", or why that cannot be used."""

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
    """The state of every run that the profile asks for, as far as selections allow to name them."""
    found = []
    points = selected_points(planner) if points is None else points
    selections = planner.selections().values()
    for run in [*(run.id for run in planner.plan(points)), *(choice.id for choice in selections)]:
        path = planner.record_file(run)
        if not path.is_file():
            found.append(RunStatus(run, "missing"))
            continue
        try:
            record = read_record(path)
        except RecordError as error:
            found.append(RunStatus(run, f"damaged: {error}"))
            continue
        if (other := _made_again(planner, record)) is None:
            found.append(RunStatus(run, "complete", record))
        else:
            state = f"outdated: {other} was made again since, with other weights; delete its record"
            found.append(RunStatus(run, state))
    return found


def _made_again(planner: Planner, record: Record) -> str | None:
    """A run that the record was built on, and that has other weights by now."""
    for run, weights in record.built_on.items():
        try:
            now = read_record(planner.record_file(run)).metrics.get("weights", weights)
        except RecordError:
            continue
        if now != weights:
            return run
    return None


def unplanned(planner: Planner, points: Mapping[str, OperatingPoint] | None = None) -> list[str]:
    """Ids of recorded runs that the profile does not ask for, or has under another name as well.

    None while a selection is missing: what follows from it cannot be told from them.
    """
    points = selected_points(planner) if points is None else points
    if len(points) < len(planner.selections()):
        return []
    known = {run.id for run in profile_status(planner, points)}
    files = [path.relative_to(planner.folder) for path in record_files(planner.folder)]
    return [run for run in (str(file.with_suffix("")) for file in files) if run not in known]


@command
def main(arguments: Sequence[str] | None) -> int:
    """Command line; exit status 1 if anything that is planned is missing or damaged."""
    line = parser("status", __doc__, "source", "results")
    line.add_argument("profiles", nargs="+", type=Path, help="profiles/NAME.yml")
    options = line.parse_args(arguments)
    lacking = 0
    for path in options.profiles:
        planner = Planner.read(path, options.source, results=options.results)
        points = selected_points(planner)
        runs = profile_status(planner, points)
        complete = [run for run in runs if run.record is not None]
        lacking += len(runs) - len(complete)
        for run in runs:
            say(f"{run.state:10} {run.id}{_made(run.record)}")
        for name in unplanned(planner, points):
            say(f"{'unplanned':10} {name}: in the figures until its record is deleted")
        say(f"{path}: {len(complete)} of {len(runs)} runs are complete")
    return int(lacking > 0)


def _made(record: Record | None) -> str:
    if record is None or record.commit is None:
        return ""
    since = changed_since(record.commit)
    changes = "" if since is None else f", {since} files of the library changed since"
    return f"  (made at {record.commit[:8]}{changes})"
