"""Print the tables of a profile: `python -m study summary embedded`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qaprune_lib.errors import QapruneError
from study.curve_tables import curve_cells
from study.frames import KINDS, SERIES, curve_points, scored_models
from study.names import f1_of_curves, f1_of_dev, place_of
from study.records.record import Record, read_records
from study.tables import CELLS, operating_points, point_cells

if TYPE_CHECKING:
    import pandas as pd


def summary(records: Sequence[Record]) -> str:
    """Curves and operating points of the records of one profile, model by model."""
    parts = []
    for _, points in curve_points(records).groupby([*SERIES, "kind"]):
        one = points.iloc[0]
        share = f"by share of {KINDS[one['kind']]} removed: {place_of(one)}"
        parts += [f"Best {f1_of_curves(one['data'])}, {share}", _plain(curve_cells(points))]
    for _, rows in operating_points(scored_models(records)).groupby(list(SERIES)):
        one, cells = rows.iloc[0], point_cells(rows, *CELLS)
        parts.append(f"Operating points, {f1_of_dev(one['data'])}: {place_of(one)}")
        parts.append(_plain(cells.loc[:, (cells != "–").any()]))
    return "\n\n".join(parts)


def _plain(frame: pd.DataFrame) -> str:
    return str(frame.to_markdown(index=False, tablefmt="github", disable_numparse=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit status 2 where there are no records, or damaged ones."""
    parser = argparse.ArgumentParser(prog="python -m study summary", description=__doc__)
    parser.add_argument("profile", help="name of a profile")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records")
    options = parser.parse_args(arguments)
    try:
        records = [r for r in read_records(options.results) if r.profile == options.profile]
        if not records:
            raise QapruneError(f"{options.results}: no records of profile {options.profile}")
        print(summary(records))  # noqa: T201
    except QapruneError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0
