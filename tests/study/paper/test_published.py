"""The paper's numbers: as printed, each with its place, readable without torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from qaprune_lib.errors import RecordError
from study.paper.published import COLUMNS, TABLE_2, TABLE_3, TABLES, TEXT, Table, of_figure

REPOSITORY = Path(__file__).resolve().parents[3]
by_number = pytest.mark.parametrize("table", TABLES, ids=lambda table: f"table{table.number}")


def cells(table: Table) -> dict[str, dict[str, float]]:
    """Numbers of a table by label of the row and heading of the column."""
    return {
        row.model: {COLUMNS[key][0]: n for key, n in row if key in COLUMNS and n is not None}
        for row in table.rows
    }


@pytest.fixture(scope="module")
def paper() -> str:
    """The paper's text, which is not part of the project."""
    shared = Path(os.environ.get("QAPRUNE_SHARED", REPOSITORY / ".." / "shared"))
    file = shared / "paper" / "paper.txt"
    if not file.is_file():
        pytest.skip(f"no text of the paper at {file} (QAPRUNE_SHARED names the folder above)")
    return file.read_text(encoding="utf-8")


def printed_tables(paper: str) -> dict[int, list[list[float]]]:
    """Numbers of the tab-separated tables of the text, row by row, by the table's number."""
    tables: dict[int, list[list[float]]] = {}
    rows: list[list[float]] = []
    for line in paper.splitlines():
        cells = line.split("\t")
        if len(cells) > 3:
            plain = [re.sub(r"\([abc]\)|M$", " ", cell.strip()) for cell in cells[1:]]
            numbers = [
                float(n) for cell in plain for n in re.findall(r"^\d+\.?\d*|(?<=\s)\d+\.\d+", cell)
            ]
            if len(numbers) > 2:
                rows.append(numbers)
        elif caption := re.match(r"Table (\d):", line):
            tables[int(caption[1])], rows = rows, []
    return tables


@by_number
def test_tables_hold_what_the_paper_prints(table: Table, paper: str) -> None:
    printed = printed_tables(paper)[table.number]
    for (model, ours), numbers in zip(cells(table).items(), printed, strict=True):
        # Table 1 prints two sources in one cell, Tables 3 to 5 time last, Table 2 first
        assert sorted(ours.values()) == sorted(numbers), model


def test_every_cell_stands_under_its_heading(paper: str) -> None:
    """Tables 2 to 5: there a heading stands over one number each."""
    nq = ["% attn removed", "% ff removed", "LA (F1)", "SA (F1)"]
    headings = {
        2: ["time (sec)", "f1", "% attn removed", "% ff removed", "size (MiB)", "f1 no retrain"],
        3: nq,
        4: nq,
        5: [*nq, "time (sec)"],
    }
    printed = printed_tables(paper)
    for table in TABLES[1:]:
        for (model, ours), numbers in zip(cells(table).items(), printed[table.number], strict=True):
            # RoBERTa-base was not pruned: its percentages are "NA"
            columns = headings[table.number][2 if model == "RoBERTa-base" else 0 :]
            assert ours == dict(zip(columns, numbers, strict=False))


def test_text_numbers_are_printed_in_their_section(paper: str) -> None:
    starts = list(
        re.finditer(r"^#+ \**([1-5](?:\.\d)*|Abstract|References)\b", paper, re.MULTILINE)
    )
    ends = [match.start() for match in starts[1:]] + [len(paper)]
    sections = {
        match[1]: paper[match.start() : end] for match, end in zip(starts, ends, strict=True)
    }
    sections["Abstract"] = paper[: paper.index("# 1 Introduction")]
    for name, number in TEXT.items():
        text = sections[number.section]
        exponent = re.fullmatch(r"1e-0(\d)", f"{number.value:.0e}")
        spellings = {f"{number.value:g}", f"{number.value:.1f}", f"{number.value:.2f}"}
        if number.value < 1 and exponent:
            spellings.add(f"10^{{-{exponent[1]}}}")
        if number.unit in ("epochs", "seeds"):
            spellings |= {"one epoch", "additional epoch", "five different"}
        assert any(re.search(rf"(?<![\d.]){re.escape(s)}(?!\d)", text) for s in spellings), name
        if number.sd is not None:
            assert f"{number.value:.1f}\\pm{number.sd:.1f}" in text.replace(" ", ""), name


def test_five_tables_of_known_size() -> None:
    assert [(len(table.rows), sum(map(len, cells(table).values()))) for table in TABLES] == [
        (4, 18),
        (8, 44),
        (3, 12),
        (4, 16),
        (5, 23),
    ]


@by_number
def test_frame_holds_the_rows(table: Table) -> None:
    frame = table.frame()
    fields = [field for field in COLUMNS if field in frame]
    assert {str(dtype) for dtype in frame[fields].dtypes} == {"float64"}
    found = {
        row["model"]: {
            COLUMNS[field][0]: row[field] for field in fields if row[field] == row[field]
        }
        for row in frame.to_dict("records")
    }
    assert found == cells(table)


def test_places_are_told() -> None:
    assert TEXT["heads_removable"].source == "Section 4.2.2"
    assert TEXT["nq_loss_below"].source == "Abstract"


def test_figures_have_only_what_the_text_says() -> None:
    assert [number.value for number in of_figure(1).values()] == [48]
    assert [number.value for number in of_figure(2).values()] == [70]
    assert of_figure(3) == {}
    assert {number.section for number in of_figure(4).values()} == {"4.3.3"}


def test_unknown_row_names_the_known_ones() -> None:
    with pytest.raises(RecordError, match=r"Table 3 has no row 'pruned x3', only: BERT-large"):
        TABLE_3.row("pruned x3")
    assert TABLE_3.row("pruned x2").short_f1 == 49.6


def test_numbers_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        TABLE_2.rows[0].f1 = 90.0  # type: ignore[misc]
    with pytest.raises(ValidationError):
        TEXT["base_f1"].value = 90.0  # type: ignore[misc]


def test_imports_without_torch_and_pandas() -> None:
    code = (
        "import sys; sys.modules.update(torch=None, transformers=None, pandas=None)\n"
        "import study.paper.published\n"
        "from study.paper.audit import audit; assert audit()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
