"""What the benchmarks measured: their records as one table of text cells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.names import number
from study.records.lineage import ROOT

if TYPE_CHECKING:
    import pandas as pd

RECORDS = ROOT / "benchmarks" / "records"
COLUMNS = ("benchmark", "against", "measured (spread)", "target", "met?")


def read_benchmarks(names: Sequence[str] = (), folder: Path = RECORDS) -> list[dict[str, Any]]:
    """The records of these benchmarks, by default of all that have one."""
    paths = [folder / f"{name}.json" for name in names] or sorted(folder.glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def benchmark_cells(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A line for each row of the records: medians over rounds, with their extremes in brackets."""
    import pandas as pd

    def target(row: dict[str, Any]) -> str:
        ends = (("≥", row["least"]), ("≤", row["most"]))
        return ", ".join(f"{sign} {end:g}{row['unit']}" for sign, end in ends if end is not None)

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        median, low, high = (number(row[name], 2) for name in ("median", "low", "high"))
        missed = f"missed: {row['why']}".removesuffix(": ")
        met = {True: "yes", False: missed, None: "–"}[row["met"]]
        spread = f"{median}{row['unit']} ({low}–{high})"
        return row["what"], row["against"], spread, target(row) or "–", met

    rows = [cells(row) for record in records for row in record["rows"]]
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def benchmark_places(records: Sequence[dict[str, Any]]) -> list[str]:
    """Of each record one line: where, with how many threads and at which commit it was made."""
    lines = []
    for record in records:
        commit = "no commit" if record["commit"] is None else record["commit"][:7]
        own = " with changes of its own" if record["dirty"] else ""
        threads = f"threads: {record['threads']}"
        lines.append(f"{record['name']}: {record['device']}, {threads}, at {commit}{own}")
    return lines
