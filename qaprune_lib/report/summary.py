"""Print the tables of a profile: `python -m qaprune_lib.report.summary embedded`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from qaprune_lib.errors import QapruneError
from qaprune_lib.experiment.status import records_of
from qaprune_lib.report.gather import KINDS, curve_points
from qaprune_lib.report.records import Record
from qaprune_lib.report.tables import curve_table, operating_point_table


def summary(records: Sequence[Record]) -> str:
    """Curves and operating points of the records of one profile, data set by data set."""
    parts = []
    for data in sorted({str(record.parameters["data"]) for record in records}):
        own = [record for record in records if record.parameters["data"] == data]
        where = f"{data}, profile {own[0].profile}, provenance {own[0].provenance}"
        for kind, name in KINDS.items():
            if kind in curve_points(own)["kind"].to_numpy():
                parts.append(f"Best F1 on held-out questions, by share of {name} removed: {where}")
                parts.append(curve_table(own, kind))
        parts.append(f"Operating points, F1 on dev questions: {where}")
        parts.append(operating_point_table(own))
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit status 2 where there are no records, or damaged ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", help="name of a profile")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records")
    options = parser.parse_args(arguments)
    try:
        records = [r for r in records_of(options.results) if r.profile == options.profile]
        if not records:
            raise QapruneError(f"{options.results}: no records of profile {options.profile}")
        print(summary(records))  # noqa: T201
    except QapruneError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
