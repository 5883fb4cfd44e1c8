"""Which runs a profile has, lacks, or has with older code."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qaprune_lib.cache import write_atomically
from qaprune_lib.errors import QapruneError, RecordError
from qaprune_lib.experiment.plan import Planner, record_file
from qaprune_lib.experiment.profile import read_profile
from qaprune_lib.experiment.select import selected_points
from qaprune_lib.report.code import code_digest
from qaprune_lib.report.records import Record, read_record, read_records, run_id

ACCEPTED = "accepted.yml"  # of JSON, which is YAML; *.json are records
"""File beside the records: older code that was read and found to give the same results."""


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
    accepted = read_accepted(Path(planner.results))
    found = []
    digests: dict[str, set[str | None]] = {}
    for run in planner.ids(points):
        path = record_file(planner, run)
        if not path.is_file():
            found.append(RunStatus(run, "missing"))
            continue
        record = read_record(path)
        digests.setdefault(str(record.parameters["data"]), set()).add(record.data_digest)
        found.append(RunStatus(run, why_stale(record, accepted) or "complete"))
    for data, seen in digests.items():
        if len(seen) > 1:
            found.append(
                RunStatus(data, f"stale: its records are of {len(seen)} versions of the data")
            )
        elif read_data:
            from qaprune_lib.experiment.questions import Questions

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


def why_stale(record: Record, accepted: Iterable[Sequence[str]] = ()) -> str | None:
    """What has changed since a record was made, or None.

    The code is compared; the data only where `profile_status` reads it.
    """
    now = code_digest(record.stage)
    if record.code_digest == now or [record.code_digest, now] in [list(pair) for pair in accepted]:
        return None
    return f"stale: the code of stage {record.stage} has changed since"


def trusted_code(planner: Planner, run: str) -> str:
    """The code digest of a run's record unless it is stale or missing; then that of today's code.

    The graph runs again what this changes for.
    """
    path = record_file(planner, run)
    if path.is_file():
        record = read_record(path)
        if why_stale(record, read_accepted(Path(planner.results))) is None:
            return record.code_digest
    return code_digest(run.partition("/")[0])


def stale(results: Path) -> list[tuple[Record, str]]:
    """All stale records of a folder, each with the reason."""
    accepted = read_accepted(results)
    reasons = [(record, why_stale(record, accepted)) for record in records_of(results)]
    return [(record, reason) for record, reason in reasons if reason is not None]


def records_of(results: Path) -> list[Record]:
    """All records of a folder: `results/<provenance>/...`."""
    return [
        record
        for provenance in ("embedded", "measured")
        for record in read_records(results / provenance)
    ]


def read_accepted(results: Path) -> list[list[str]]:
    """Pairs of code digests, of a record and of the code that was found to be equivalent.

    Raises:
        RecordError: the file is not a list of such pairs.
    """
    return [[entry["recorded"], entry["equivalent"]] for entry in _accepted_entries(results)]


def _accepted_entries(results: Path) -> list[dict[str, str]]:
    path = results / ACCEPTED
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [{name: entry[name] for name in _ENTRY} for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: not a list of accepted code: {error}") from error


_ENTRY = ("stage", "recorded", "equivalent", "why")


def accept(results: Path, reason: str) -> int:
    """Note that the code as it is now gives what all stale records say; returns their number.

    For changes that were read and found harmless (a renamed variable); the reason is kept with the
    digests. A later change makes the records stale again.
    """
    found = stale(results)
    entries = _accepted_entries(results)
    pairs = {(record.stage, record.code_digest, code_digest(record.stage)) for record, _ in found}
    entries += [dict(zip(_ENTRY, (*pair, reason), strict=True)) for pair in sorted(pairs)]
    if pairs:
        text = json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
        write_atomically(results / ACCEPTED, text)
    return len(found)


def main(arguments: list[str] | None = None) -> int:
    """Command line: `python -m qaprune_lib.experiment.status profiles/embedded.yml`.

    Exit status 1 if anything is missing or stale; runs that were not planned are only listed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profiles", nargs="*", type=Path, help="profiles/NAME.yml")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records")
    parser.add_argument(
        "--source", help="folder of the questions: also say whether they have changed"
    )
    parser.add_argument("--accept", metavar="WHY", help="accept all stale records, and say why")
    options = parser.parse_args(arguments)
    try:
        if options.accept:
            print(f"{accept(options.results, options.accept)} records accepted")  # noqa: T201
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
        old = stale(options.results)
        for record, reason in old:
            name = run_id(record.stage, record.parameters)
            print(f"{record.provenance}/{record.profile}/{name}: {reason}")  # noqa: T201
    except QapruneError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 1 if lacking or old else 0


if __name__ == "__main__":
    sys.exit(main())
