"""The tables that are printed after a sweep, on the committed records and on made-up ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.linked import Runs
from study.names import model_of
from study.records.record import read_records
from study.summary import main, summary
from tests.study.synthetic import sweep

RESULTS = Path(__file__).parents[2] / "results"


def tables(text: str) -> dict[str, list[list[str]]]:
    """The cells of each table, by its heading."""
    parts = text.split("\n\n")
    return {
        heading: [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
        for heading, table in zip(parts[::2], parts[1::2], strict=True)
    }


def test_each_model_and_each_kind_has_its_table() -> None:
    found = tables(summary(sweep(profile="p").records))
    place = "MiniLM on generated SQuAD 2.0, embedded, profile p"
    assert f"Operating points, F1 on dev questions (%): {place}" in found
    curve = "Best F1 on held-out questions (%), by share of attention heads removed"
    assert any(row[0] == "random" for row in found[f"{curve}: {place}"])


def test_committed_records_keep_models_tasks_and_gates_apart() -> None:
    records = read_records(RESULTS / "measured")
    found = tables(summary(records))
    runs = Runs(records)
    models = {model_of({"model": runs.model_of(record)}) for record in runs.of("prune")}
    headings = [heading for heading in found if heading.startswith("Operating points")]
    assert {heading.partition(": ")[2].partition(" on ")[0] for heading in headings} == models
    on_nq = [heading for heading in headings if "NQ-format" in heading]
    assert on_nq == [heading for heading in headings if "short-answer F1 on dev" in heading]
    rows = found[on_nq[0]]
    names = [tuple(row[:2]) for row in rows]
    assert len(set(names)) == len(names) == 1 + 1 + 2 * 3 * 2 + 1
    assert sum("gates of SQuAD 2.0" in row[0] for row in rows) == 2 * 3
    assert sum("gates and weights of SQuAD 2.0" in row[0] for row in rows) == 1
    assert all("(×1)" in row[0] or "(×2)" in row[0] for row in rows if "ff + attn" in row[0])
    assert all(row[2] == "1" for row in rows)  # no two runs in one row


def test_without_records_of_the_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embedded", "--results", str(tmp_path)]) == 2
    assert "no records" in capsys.readouterr().err
