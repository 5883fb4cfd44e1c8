"""Print the tables of a profile: `python -m study.summary embedded`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from qaprune_lib.errors import QapruneError
from study.frames import KINDS, SERIES, curve_points, scored_models
from study.names import f1_of_curves, f1_of_dev, place_of
from study.plan.status import records_of
from study.records.record import Record
from study.tables import (
    curve_cells,
    markdown,
    operating_point_cells,
    operating_points,
)


def summary(records: Sequence[Record]) -> str:
    """Curves and operating points of the records of one profile, model by model."""
    parts = []
    for _, points in curve_points(records).groupby(list(SERIES)):
        where, data = place_of(points.iloc[0]), str(points["data"].iloc[0])
        for kind, name in KINDS.items():
            of_kind = points[points["kind"] == kind]
            if len(of_kind):
                parts.append(f"Best {f1_of_curves(data)}, by share of {name} removed: {where}")
                parts.append(markdown(curve_cells(of_kind)))
    for _, models in operating_points(scored_models(records)).groupby(list(SERIES)):
        where, data = place_of(models.iloc[0]), str(models["data"].iloc[0])
        parts.append(f"Operating points, {f1_of_dev(data)}: {where}")
        parts.append(markdown(operating_point_cells(models)))
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
