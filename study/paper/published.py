"""The paper's own numbers: its Tables 1 to 5, as printed.

McCarley, Chakravarti and Sil, *Structured Pruning of a BERT-based Question Answering Model*. Each
number knows its place in the paper; those of the running text are in `published_text`. The points
of Figures 1 to 4 are drawn, not printed, so none of them is here. Imports without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from qaprune_lib.errors import RecordError

if TYPE_CHECKING:
    import pandas as pd

PROVENANCE: Literal["published"] = "published"

CITED = {"a": "Jiao et al., 2019", "b": "Sanh et al., 2019", "c": "Devlin et al., 2019"}
"""Where Table 1 takes its numbers from, by the letter beside them; no letter: not said."""

COLUMNS = {
    "parameters": ("params", "millions"),
    "squad1_f1_a": ("SQuAD 1.1 (a)", "F1 points"),
    "squad1_f1_b": ("SQuAD 1.1 (b)", "F1 points"),
    "squad1_f1_c": ("SQuAD 1.1 (c)", "F1 points"),
    "squad2_f1_a": ("SQuAD 2.0 (a)", "F1 points"),
    "squad2_f1": ("SQuAD 2.0", "F1 points"),
    "nq_short_f1": ("NQ", "F1 points"),
    "seconds": ("time (sec)", "seconds"),
    "f1": ("f1", "F1 points"),
    "attn_removed": ("% attn removed", "percent"),
    "ff_removed": ("% ff removed", "percent"),
    "mebibytes": ("size (MiB)", "MiB"),
    "f1_no_retrain": ("f1 no retrain", "F1 points"),
    "long_f1": ("LA (F1)", "F1 points"),
    "short_f1": ("SA (F1)", "F1 points"),
}
"""Heading in the paper and unit of each field that holds a number of a table."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Number(_Frozen):
    """One printed number and its place: table, row and column, or the section of the text.

    Attributes:
        value: as printed; F1 and shares in percent.
        unit: what it counts.
        sd: the ± beside it, over seeds.
        table, row, column: its place, the row and column as the paper heads them.
        section: "Abstract" or the section's number, for a number of the running text.
        figure: the figure that the text speaks of.
        words: the paper's words around a number of the running text.
    """

    value: float
    unit: str
    sd: float | None = None
    table: int | None = None
    row: str | None = None
    column: str | None = None
    section: str | None = None
    figure: int | None = None
    words: str | None = None
    provenance: Literal["published"] = PROVENANCE

    @property
    def source(self) -> str:
        """The place in words: "Table 2, row attn_1, column f1" or "Section 4.2.2"."""
        if self.table is not None:
            return f"Table {self.table}, row {self.row}, column {self.column}"
        return "Abstract" if self.section == "Abstract" else f"Section {self.section}"


class TableRow(_Frozen):
    """A row: its label in the paper; None stands for an empty cell or "NA"."""

    model: str


class DistilledRow(TableRow):
    """Table 1: a model and its F1 on three tasks; a, b, c are the sources in `CITED`."""

    parameters: float
    squad1_f1_a: float | None = None
    squad1_f1_b: float | None = None
    squad1_f1_c: float | None = None
    squad2_f1_a: float | None = None
    squad2_f1: float | None = None
    nq_short_f1: float


class SquadRow(TableRow):
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


class NqRow(TableRow):
    """Tables 3 to 5: a model on Natural Questions; `multiple` of λ, 0 for the unpruned."""

    multiple: int
    attn_removed: float | None
    ff_removed: float | None
    long_f1: float
    short_f1: float
    seconds: float | None = None


RowT = TypeVar("RowT", bound=TableRow)


class Table(_Frozen, Generic[RowT]):
    """One table of the paper."""

    number: int
    caption: str
    rows: tuple[RowT, ...]

    def row(self, model: str) -> RowT:
        """The row with this label.

        Raises:
            RecordError: the table has no such row.
        """
        for row in self.rows:
            if row.model == model:
                return row
        labels = ", ".join(row.model for row in self.rows)
        raise RecordError(f"Table {self.number} has no row {model!r}, only: {labels}")

    def numbers(self) -> tuple[Number, ...]:
        """Every printed number of the table with its place, row by row."""
        return tuple(
            Number(value=value, unit=unit, table=self.number, row=row.model, column=heading)
            for row in self.rows
            for field, (heading, unit) in COLUMNS.items()
            if (value := getattr(row, field, None)) is not None
        )

    def records(self) -> list[dict[str, str | int | float | bool | None]]:
        """The rows as plain dictionaries, with the table's number and the provenance."""
        return [
            {"table": self.number, **row.model_dump(), "provenance": PROVENANCE}
            for row in self.rows
        ]

    def frame(self) -> pd.DataFrame:
        """The rows as a frame, one column a field; empty cells are NaN."""
        import pandas as pd

        frame = pd.DataFrame(self.records())
        numeric = [column for column in frame if column in COLUMNS]
        return frame.astype(dict.fromkeys(numeric, float)).dropna(axis="columns", how="all")


def _squad(model: str, attn: int, ff: int, retrained: bool, *cells: float) -> SquadRow:
    names = ("seconds", "f1", "attn_removed", "ff_removed", "mebibytes", "f1_no_retrain")
    numbers = dict(zip(names, cells, strict=False))
    return SquadRow.model_validate(
        {"model": model, "attn_multiple": attn, "ff_multiple": ff, "retrained": retrained} | numbers
    )


def _nq(model: str, multiple: int, *cells: float | None) -> NqRow:
    names = ("attn_removed", "ff_removed", "long_f1", "short_f1", "seconds")
    numbers = dict(zip(names, cells, strict=False))
    return NqRow.model_validate({"model": model, "multiple": multiple} | numbers)


TABLE_1 = Table[DistilledRow](
    number=1,
    caption="Comparison of published F1 scores of well-known distillations of BERT on several "
    "question-answering tasks (NQ: short answers)",
    rows=(
        DistilledRow(
            model="BERT-large", parameters=356, squad1_f1_c=90.9, squad2_f1=83.52, nq_short_f1=56.14
        ),
        DistilledRow(
            model="BERT-base",
            parameters=125,
            squad1_f1_a=88.4,
            squad1_f1_b=88.5,
            squad2_f1_a=76.4,
            nq_short_f1=52.75,
        ),
        DistilledRow(
            model="DistilBert",
            parameters=63,
            squad1_f1_a=86.2,
            squad1_f1_b=86.9,
            squad2_f1_a=69.5,
            nq_short_f1=50.46,
        ),
        DistilledRow(
            model="TinyBert", parameters=63, squad1_f1_a=87.5, squad2_f1_a=73.4, nq_short_f1=44.64
        ),
    ),
)

TABLE_2 = Table[SquadRow](
    number=2,
    caption="Decoding times, accuracies, and space savings achieved at sample operating points on "
    "large-qa",
    rows=(
        _squad("no pruning", 0, 0, False, 2712, 84.6, 0, 0, 1279),
        _squad("attn_1", 1, 0, False, 2288, 84.2, 44.3, 0, 1112),
        _squad("ff_1", 0, 1, False, 2103, 83.2, 0, 48.1, 908),
        _squad("ff_1 + attn_1", 1, 1, False, 1718, 82.6, 44.0, 48.1, 740),
        _squad("ff_1 + attn_1 + retrain", 1, 1, True, 1667, 83.7, 44.0, 48.1, 740, 82.6),
        _squad("ff(×2) + attn(×2) + retrain", 2, 2, True, 1391, 83.2, 53.1, 64.9, 576, 80.9),
        _squad("ff(×3) + attn(×3) + retrain", 3, 3, True, 1213, 82.4, 57.6, 73.7, 492, 76.8),
        _squad("ff(×4) + attn(×4) + retrain", 4, 4, True, 1128, 81.5, 60.1, 78.4, 441, 67.8),
    ),
)

TABLE_3 = Table[NqRow](
    number=3,
    caption="pruned on SQuAD, continued training on NQ",
    rows=(
        _nq("BERT-large", 0, 0, 0, 66.1, 54.7),
        _nq("pruned", 1, 44, 48, 65.9, 51.7),
        _nq("pruned x2", 2, 53, 65, 64.2, 49.6),
    ),
)

TABLE_4 = Table[NqRow](
    number=4,
    caption="pruning RoBERTa on NQ, continued cross-entropy training on NQ",
    rows=(
        _nq("RoBERTa-large", 0, 0, 0, 70.3, 58.8),
        _nq("pruned", 1, 42, 40, 68.3, 57.7),
        _nq("pruned x2", 2, 53, 56, 67.8, 55.5),
        _nq("pruned x3", 3, 68, 75, 65.2, 52.2),
    ),
)

TABLE_5 = Table[NqRow](
    number=5,
    caption="pruning RoBERTa on NQ, continued distillation training on NQ",
    rows=(
        _nq("RoBERTa-large", 0, 0, 0, 70.3, 58.8, 2789),
        _nq("pruned", 1, 42, 40, 69.8, 58.4, 1867),
        _nq("pruned x2", 2, 53, 55, 69.3, 58.4, 1523),
        _nq("pruned x3", 3, 68, 75, 67.6, 55.4, 1135),
        _nq("RoBERTa-base", 0, None, None, 67.3, 55.9, 1151),
    ),
)
