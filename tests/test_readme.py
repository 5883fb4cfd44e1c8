"""Every result in README.md is a recorded one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from study.linked import Runs, id_of
from study.records.record import Record, read_records

ROOT = Path(__file__).parents[1]
STAGES = {"fine-tuned": "finetune", "not retrained": "prune"}
REAL = "dev-real-questions"


def _removed(record: Record, kind: str) -> float:
    """Percent removed of a pruned model, also after it was retrained."""
    pruned: Record | None = record
    while pruned is not None and pruned.stage not in ("prune", "finetune"):
        pruned = _runs().find(pruned.parameters["model"], pruned)
    assert pruned is not None, id_of(record)
    return float(pruned.metrics["removed"][kind]) if pruned.stage == "prune" else 0.0


def _speedup(record: Record) -> float:
    name = record.parameters["model"] if record.stage == "retrain" else id_of(record)
    timed = (run.metrics[name] for run in _runs().of("time") if name in run.metrics)
    return float(next(timed)["speedup"])


COLUMNS: dict[str, Callable[[Record], float]] = {
    "F1": lambda record: record.metrics["dev"]["f1"],
    "exact": lambda record: record.metrics["dev"]["fitted"]["exact"],
    "HasAns": lambda record: record.metrics["dev"]["fitted"]["HasAns_f1"],
    "NoAns": lambda record: record.metrics["dev"]["fitted"]["NoAns_f1"],
    "dev LA": lambda record: record.metrics["dev"]["long"]["f1"],
    "dev SA": lambda record: record.metrics["dev"]["short"]["f1"],
    "real LA": lambda record: record.metrics["other_dev"][REAL]["long"]["f1"],
    "real SA": lambda record: record.metrics["other_dev"][REAL]["short"]["f1"],
    "% heads removed": lambda record: _removed(record, "attn"),
    "% activations removed": lambda record: _removed(record, "ff"),
    "parameters (M)": lambda record: record.metrics["parameters"] / 1e6,
    "speed-up": _speedup,
}


@cache
def _runs() -> Runs:
    return Runs(read_records(ROOT / "results" / "measured"))


def _rows() -> Iterator[dict[str, str]]:
    """The rows of tables that have a column `then`, by column."""
    header: list[str] = []
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if not cells:
            header = []
        elif not header:
            header = cells
        elif "then" in header and cells[0].strip("- "):
            yield dict(zip(header, cells, strict=True))


def _agrees(record: Record, row: dict[str, str]) -> bool:
    if ("dev LA" in row) != (record.parameters["data"] == "nq"):
        return False
    if ("NoAns" in row) != (record.parameters["data"] == "squad2"):
        return False
    for column, compute in COLUMNS.items():
        cell = row.get(column, "–")
        decimals = len(cell.partition(".")[2])
        if cell != "–" and f"{compute(record):.{decimals}f}" != cell:
            return False
    return True


@pytest.mark.parametrize("row", _rows(), ids=lambda row: "; ".join(row.values()))
def test_row_is_recorded(row: dict[str, str]) -> None:
    if row["then"]:
        stage = STAGES.get(row["then"], "retrain")
        found = [id_of(r) for r in _runs().of(stage) if _agrees(r, row)]
        assert len(found) == 1, found
        return
    record = next(r for r in _runs().of("finetune") if "word_overlap" in r.metrics)
    overlap = record.metrics["word_overlap"]
    for column, split in (("dev", "dev"), ("real", REAL)):
        for kind, answer in (("LA", "long"), ("SA", "short")):
            assert f"{overlap[split][answer]['f1']:.1f}" == row[f"{column} {kind}"]


def test_rows_are_found() -> None:
    """A changed layout of the tables would leave nothing to check."""
    assert len(list(_rows())) >= 38


def test_memory_and_speed_of_reading_are_measured() -> None:
    measured = json.loads(
        (ROOT / "benchmarks" / "natural_questions_memory.json").read_text(encoding="utf-8")
    )
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    found = re.search(
        r"(\S+) GB of pages are read and cut into windows in (\S+) GiB, at (\S+)", text
    )
    assert found is not None
    gigabytes = measured["megabytes"] / 1000
    ratio = measured["ratio_to_tokenizer"]
    assert found.groups() == (f"{gigabytes:.0f}", f"{measured['peak_gib']:.2f}", f"{ratio:.2f}")
