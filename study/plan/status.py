"""Which runs a profile has, lacks, or has with older code."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from qaprune_lib.errors import QapruneError
from study.plan.plan import Planner, record_file
from study.plan.profile import read_profile
from study.plan.select import selected_points
from study.records.record import Record, read_record, read_records


@dataclass(frozen=True)
class RunStatus:
    """One run of a profile: "complete", "missing", or why its record is "stale"."""

    id: str
    state: str


def profile_status(planner: Planner, *, read_data: bool = False) -> list[RunStatus]:
    """The state of every run that the profile asks for.

    What follows from a selection that is not there yet is counted as the selection alone.

    Args:
        planner: of the profile.
        read_data: read the questions too, and compare them with those of the records.
    """
    points = selected_points(planner)
    found = []
    digests: dict[str, set[str | None]] = {}
    for run in planner.ids(points):
        path = record_file(planner, run)
        if not path.is_file():
            found.append(RunStatus(run, "missing"))
            continue
        record = read_record(path)
        digests.setdefault(str(record.parameters["data"]), set()).add(record.data_digest)
        found.append(RunStatus(run, "complete"))
    for data, seen in digests.items():
        if len(seen) > 1:
            found.append(
                RunStatus(data, f"stale: its records are of {len(seen)} versions of the data")
            )
        elif read_data:
            from study.stages.questions import Questions

            reads = next(run for run in planner.plan(points) if run.data == data)
            if Questions.load(reads).digest not in seen:
                found.append(RunStatus(data, f"stale: {reads.source} holds other questions by now"))
    return found


def unplanned(planner: Planner) -> list[str]:
    """Ids of recorded runs that the profile does not ask for: made by hand, or of an older profile.

    Tables and figures have them too. None before all operating points are selected, which name
    further runs.
    """
    points = selected_points(planner)
    if set(points) != set(planner.selections()):
        return []
    folder = Path(planner.results) / planner.profile.provenance / planner.profile.name
    recorded = (f"{path.parent.name}/{path.stem}" for path in sorted(folder.glob("*/*.json")))
    planned = set(planner.ids(points))
    return [run for run in recorded if run not in planned]


def records_of(results: Path) -> list[Record]:
    """All records of a folder: `results/<provenance>/...`."""
    return [
        record
        for provenance in ("embedded", "measured")
        for record in read_records(results / provenance)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Command line: `python -m study.plan.status profiles/embedded.yml`.

    Exit status 1 if anything is missing or stale; runs that were not planned are only listed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profiles", nargs="*", type=Path, help="profiles/NAME.yml")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records")
    parser.add_argument(
        "--source", help="folder of the questions: also say whether they have changed"
    )
    options = parser.parse_args(arguments)
    try:
        lacking = 0
        for path in options.profiles:
            profile = read_profile(path, source=options.source or "-")
            planner = Planner(profile, results=str(options.results))
            runs = profile_status(planner, read_data=options.source is not None)
            lacking += sum(run.state != "complete" for run in runs)
            for run in runs:
                print(f"{run.state:10} {run.id}")  # noqa: T201
            for name in unplanned(planner):
                print(f"{'unplanned':10} {name}: in the figures until its record is deleted")  # noqa: T201
            complete = sum(run.state == "complete" for run in runs)
            print(f"{path}: {complete} of {len(runs)} runs are complete")  # noqa: T201
    except QapruneError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
