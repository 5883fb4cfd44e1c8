"""Each benchmark runs on a minimal size, and its record has what the book's table shows."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import NAMES
from benchmarks.shared import Row, record
from qaprune_lib.evaluation.rounds import disagreeing, in_turns
from study.benchmarks import COLUMNS, benchmark_cells, benchmark_places, read_benchmarks
from study.figures.growth import NAMES as GROWTH_NAMES
from study.figures.growth import growth_figure

ROOT = Path(__file__).parents[1]
TINY = "bert-tiny"
SMALL: dict[str, dict[str, Any]] = {
    "gate_training": {"model": TINY, "batch_size": 2},
    "gradient_scores": {"model": TINY, "questions": 3},
    "leave_one_out": {"model": TINY, "questions": 2},
    "windows": {"questions": 20},
    "natural_questions_memory": {"megabytes": 0.1},
    "decoding": {"model": "embedded-small", "questions": 4, "training_steps": 2},
    "decoding_with_windows": {"model": TINY, "questions": 4},
    "pruned_speed": {"model": TINY, "length": 8},
    "serving": {"model": "embedded-small", "length": 8},
    "latency_budget": {
        "models": "bert-tiny,mpnet-tiny",
        "topologies": 2,
        "length": 64,
        "speedup": 1.1,
    },
    "compute_dtype": {"model": TINY, "batch_size": 2, "length": 8},
    "rivals": {
        "model": "embedded-small",
        "training_steps": 2,
        "retraining_steps": 1,
        "scored": 4,
        "judged": 6,
    },
    "sizes": {"model": "bert-tiny:1", "widths": 1, "length": 8},
    "import_time": {},
    "kept_teacher": {"model": TINY, "questions": 4, "batch_size": 2},
    "data_parallel": {"model": TINY, "batch_size": 4, "steps": 1},
    "growth": {"model": TINY, "questions": 1},
}


def test_every_file_is_run_by_make_bench_and_tested() -> None:
    files = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert set(NAMES) == files - {"__main__", "shared"} == set(SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_benchmark_runs_and_its_record_has_the_fields(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QAPRUNE_CACHE", str(tmp_path / "cache"))
    measure = importlib.import_module(f"benchmarks.{name}").measure
    made = record(measure, {**SMALL[name], "rounds": 1})
    (tmp_path / f"{name}.json").write_text(json.dumps(made))
    (read,) = read_benchmarks([name], tmp_path)
    assert read["name"] == name
    assert read["rows"]
    for row in read["rows"]:
        assert row["low"] <= row["median"] <= row["high"]
        assert row["low"] > 0 or row["what"].startswith("F1 lost")
        assert (row["met"] is None) == (row["least"] is None and row["most"] is None)
    assert {"options", "seconds", "threads", "device", "packages", "commit", "dirty"} <= set(read)
    cells = benchmark_cells([read])
    assert list(cells.columns) == list(COLUMNS)
    assert len(cells) == len(read["rows"])
    assert benchmark_places([read])[0].startswith(name)
    if name == "growth":
        drawn = growth_figure(read)
        assert all(said in drawn.alt for said in ("seconds", "MiB", *GROWTH_NAMES.values()))


def test_clocks_take_turns_and_a_round_that_disagrees_is_measured_again() -> None:
    seconds = {"a": [9.0, 1.0, 1.0, 1.0, 1.0], "b": [9.0, 2.0, 3.0, 2.1, 2.05]}
    turns: list[str] = []

    def read(name: str) -> float:
        turns.append(name)
        return seconds[name].pop(0)

    found = in_turns([lambda: read("a"), lambda: read("b")], rounds=3)
    assert turns == ["a", "b"] * 5  # a warm-up, three rounds, and the second one again
    assert found.ratios(1) == [2.0, 2.05, 2.1]
    assert found.repeated == 1


@pytest.mark.parametrize(
    ("seconds", "worst"),
    [
        ([[1.0, 2.0], [2.0, 4.1], [1.0, 2.1]], None),  # seconds differ, ratios do not
        ([[1.0, 2.0], [1.0, 2.5], [1.0, 2.1]], 1),
        ([[1.0], [1.05], [2.0]], 2),
        ([[1.0, 2.0]], None),
    ],
)
def test_rounds_are_compared_by_their_ratios(seconds: list[list[float]], worst: int | None) -> None:
    assert disagreeing(seconds) == worst


def test_a_target_is_met_by_the_median_or_by_every_round() -> None:
    rounds = [0.5, 0.6, 0.8]
    assert Row("a", "b", rounds, most=0.6).met
    assert not Row("a", "b", rounds, most=0.6, every=True).met
    assert Row("a", "b", rounds, least=0.5, most=0.8, every=True).met
    assert Row("a", "b", rounds).met is None


def test_a_missed_target_says_why() -> None:
    row = {"what": "a", "against": "b", "median": 0.5, "low": 0.4, "high": 0.6, "unit": "",
           "least": 0.7, "most": None, "met": False, "why": "its reason"}  # fmt: skip
    cells = benchmark_cells([{"rows": [row, {**row, "met": True}]}])
    assert cells["met?"].tolist() == ["missed: its reason", "yes"]
    assert cells["target"].tolist() == ["≥ 0.7", "≥ 0.7"]
    assert cells["measured (spread)"].tolist() == ["0.50 (0.40–0.60)"] * 2
