"""The paper's Tables 1 to 5, read from tables.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

from qaprune_lib.errors import RecordError

if TYPE_CHECKING:
    import pandas as pd

PROVENANCE = "published"
_DATA = tomllib.loads(Path(__file__).with_name("tables.toml").read_text(encoding="utf-8"))

COLUMNS: dict[str, list[str]] = _DATA["columns"]
"""Heading in the paper and unit of each field that holds a number of a table."""


class TableRow(BaseModel, frozen=True, extra="forbid"):
    """A row: its label in the paper, and F1 and shares in percent; None is an empty cell or NA."""

    model: str


class DistilledRow(TableRow, frozen=True):
    """Table 1: a model, its parameters in millions and its F1; a, b, c are the paper's sources."""

    parameters: float
    squad1_f1_a: float | None = None
    squad1_f1_b: float | None = None
    squad1_f1_c: float | None = None
    squad2_f1_a: float | None = None
    squad2_f1: float | None = None
    nq_short_f1: float


class SquadRow(TableRow, frozen=True):
    """Table 2: large-qa on SQuAD 2.0; multiples of the penalty λ that pruned it, 0 for none."""

    attn_multiple: int
    ff_multiple: int
    retrained: bool
    seconds: float
    f1: float
    attn_removed: float
    ff_removed: float
    mebibytes: float
    f1_no_retrain: float | None = None


class NqRow(TableRow, frozen=True):
    """Tables 3 to 5: a model on Natural Questions; `multiple` of λ, 0 for the unpruned."""

    multiple: int
    attn_removed: float | None = None
    ff_removed: float | None = None
    long_f1: float
    short_f1: float
    seconds: float | None = None


RowT = TypeVar("RowT", bound=TableRow)


@dataclass(frozen=True)
class Table(Generic[RowT]):
    """One table of the paper; `named` holds its rows by their names in tables.toml.

    >>> TABLE_2.row("attn_1").seconds
    2288.0
    """

    number: int
    caption: str
    named: dict[str, RowT]

    @property
    def rows(self) -> tuple[RowT, ...]:
        """In the paper's order."""
        return tuple(self.named.values())

    def row(self, model: str) -> RowT:
        """The row with this label.

        Raises:
            RecordError: the table has no such row.
        """
        rows = {row.model: row for row in self.rows}
        if model not in rows:
            raise RecordError(f"Table {self.number} has no row {model!r}, only: {', '.join(rows)}")
        return rows[model]

    def frame(self) -> pd.DataFrame:
        """The rows as a frame, one column a field; empty cells are NaN."""
        import pandas as pd

        frame = pd.DataFrame([row.model_dump() for row in self.rows])
        return frame.dropna(axis="columns", how="all")


def _table(number: int, row_type: type[RowT]) -> Table[RowT]:
    data = _DATA[f"table{number}"]
    named = {}
    for name, cells in data["rows"].items():
        row = zip(data["columns"], cells, strict=True)
        named[name] = row_type.model_validate({key: c for key, c in row if c not in ("", "NA")})
    return Table(number, data["caption"], named)


TABLE_1 = _table(1, DistilledRow)
TABLE_2 = _table(2, SquadRow)
TABLE_3 = _table(3, NqRow)
TABLE_4 = _table(4, NqRow)
TABLE_5 = _table(5, NqRow)
TABLES: tuple[Table[Any], ...] = (TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5)
