"""What the paper prints: Tables 1 to 5 of tables.toml, and the numbers in text.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, create_model

from qaprune_lib.errors import RecordError

if TYPE_CHECKING:
    import pandas as pd

PROVENANCE = "published"


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


_DATA = _read("tables.toml")

COLUMNS: dict[str, list[str]] = _DATA["columns"]
"""Heading in the paper and unit of each field that holds a number of a table."""

_READ = {"attn_multiple": int, "ff_multiple": int, "multiple": int, "retrained": bool}
_FIELDS: dict[str, Any] = {
    name: (kind | None, None) for name, kind in (dict.fromkeys(COLUMNS, float) | _READ).items()
}
Row: Any = create_model(
    "Row", __config__=ConfigDict(frozen=True, extra="forbid"), model=(str, ...), **_FIELDS
)
"""A row: its label in the paper, and what stands in its table's columns; F1 and shares in percent,
multiples of the penalty λ that pruned it, 0 for none. None is an empty cell, or NA."""


@dataclass(frozen=True)
class Table:
    """One table of the paper; `named` holds its rows by their names in tables.toml.

    >>> TABLE_2.row("attn_1").seconds
    2288.0
    """

    number: int
    caption: str
    columns: tuple[str, ...]
    named: dict[str, Any]

    @property
    def rows(self) -> tuple[Any, ...]:
        """In the paper's order."""
        return tuple(self.named.values())

    def row(self, model: str) -> Any:
        """The row with this label; a `RecordError` names those that there are."""
        rows = {row.model: row for row in self.rows}
        if model not in rows:
            raise RecordError(f"Table {self.number} has no row {model!r}, only: {', '.join(rows)}")
        return rows[model]

    def frame(self) -> pd.DataFrame:
        """The rows as a frame, one column a field; empty cells are NaN."""
        import pandas as pd

        return pd.DataFrame([row.model_dump() for row in self.rows])[list(self.columns)]


def _table(number: int) -> Table:
    data = _DATA[f"table{number}"]
    named = {}
    for name, cells in data["rows"].items():
        row = zip(data["columns"], cells, strict=True)
        named[name] = Row(**{key: cell for key, cell in row if cell not in ("", "NA")})
    return Table(number, data["caption"], tuple(data["columns"]), named)


TABLES = TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5 = tuple(map(_table, range(1, 6)))


class Number(BaseModel, frozen=True, extra="forbid"):
    """One printed number and its place; text.toml says what is what."""

    value: float
    unit: str
    sd: float | None = None
    section: str
    figure: int | None = None
    words: str

    @property
    def source(self) -> str:
        """The place in words, for instance "Section 4.2.2"."""
        return "Abstract" if self.section == "Abstract" else f"Section {self.section}"


TEXT: dict[str, Number] = {
    name: Number(section=section, **number)
    for section, numbers in _read("text.toml").items()
    for name, number in numbers.items()
}
"""Each printed number by a name of ours."""


def of_figure(figure: int) -> dict[str, Number]:
    """What the text prints of a figure's points; empty for a figure of which it prints none.

    >>> {name: number.value for name, number in of_figure(1).items()}
    {'heads_removable': 48.0}
    """
    return {name: number for name, number in TEXT.items() if number.figure == figure}
