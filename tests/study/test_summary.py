"""The tables that are printed after a sweep, on the committed records and on made-up ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.curve_tables import removable_shares
from study.frames import curve_points
from study.linked import Runs
from study.names import model_of
from study.records.record import read_records
from study.summary import findings, main, summary
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


def test_the_findings_are_of_measured_records_and_lead_to_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = sweep(profile="real", provenance="measured").records
    heads, activations, speed, calls = findings([*sweep(profile="toy").records, *measured])
    for kind, line in (("attn", heads), ("ff", activations)):
        points = curve_points(measured)
        points = points[(points["kind"] == kind) & (points["variant"] == "")]
        assert all(share in line for share in removable_shares(points))
    assert "F1 lost at" in speed
    assert calls == "- One call of `compress`, not in the paper: no measured runs yet."
    for line in (heads, activations, speed):
        assert "MiniLM on SQuAD 2.0, measured, profile real, n = 240" in line
        assert "answering nothing 50.0" in line
        assert "[records](results/measured/real)" in line
        assert f"[c0c0c0c](https://github.com/qaprune/qaprune/commit/{'c0' * 20})" in line
    assert main(["--findings", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("yet") == 4
