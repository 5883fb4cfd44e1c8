from __future__ import annotations

from typing import Any

import pytest

from qaprune_lib.report import Record
from qaprune_lib.report.tables import curve_table, operating_point_table


def record(stage: str, parameters: dict[str, Any], metrics: dict[str, Any]) -> Record:
    return Record(
        stage=stage,
        profile="p",
        parameters=parameters,
        metrics=metrics,
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        device="cpu",
        packages={},
        code_digest="ab",
        provenance="embedded",
    )


def scored(f1: float, **more: Any) -> dict[str, Any]:
    fitted = {"f1": f1, "HasAns_f1": f1 + 1, "NoAns_f1": None}
    return {"dev": {"fitted": fitted}, "parameters": 2_000_000, **more}


def timing(speedup: float) -> dict[str, float]:
    return {"speedup": speedup, "speedup_low": speedup - 0.1, "speedup_high": speedup + 0.1}


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_operating_points_stand_with_their_own_numbers() -> None:
    small = {"point": "small"}
    removed = {"attn": 41.7, "ff": 25.2}
    records = [
        record("retrain", {**small, "objective": "distillation"}, scored(79.0)),
        record("finetune", {"model": "m"}, scored(80.0)),
        record("prune", small, scored(60.0, removed=removed)),
        record("retrain", {"point": "whole", "objective": "cross_entropy"}, scored(81.0)),
        record("time", {}, {"whole": timing(1.0), "small": timing(1.5)}),
    ]
    header, rule, *body = rows(operating_point_table(records))
    assert len(header) == len(rule) == 9
    assert body == [
        ["whole", "fine-tuned", "80.0", "81.0", "–", "0", "0", "2.0", "1.00 (0.90 to 1.10)"],
        ["whole", "cross-entropy", "81.0", "82.0", "–", "0", "0", "2.0", "1.00 (0.90 to 1.10)"],
        ["small", "distillation", "79.0", "80.0", "–", "42", "25", "2.0", "1.50 (1.40 to 1.60)"],
        ["small", "not retrained", "60.0", "61.0", "–", "42", "25", "2.0", "1.50 (1.40 to 1.60)"],
    ]


def test_operating_points_without_a_timing_run() -> None:
    with pytest.raises(ValueError, match="stage 'time'"):
        operating_point_table([record("finetune", {}, scored(80.0))])


def test_curves_gather_seeds_and_keep_runs_of_l0_apart() -> None:
    def curve(parameters: dict[str, Any], f1: list[float], own: float | None = None) -> Record:
        points = [
            {"removed": 10.0 * (i + 1), "own_threshold": False, "f1": f} for i, f in enumerate(f1)
        ]
        if own is not None:
            points.append({"removed": 33.3, "own_threshold": True, "f1": own})
        return record("curve", {"kind": "attn", **parameters}, {"points": points})

    records = [
        curve({"scorer": "random", "seed": 0}, [50.0, 40.0]),
        curve({"scorer": "random", "seed": 1}, [54.0, 40.0]),
        curve({"scorer": "l0", "penalty": {"attn": 0.02}}, [70.0, 60.0], own=65.0),
        curve({"scorer": "gain", "at": 0}, [69.0, 59.0]),
        record("curve", {"kind": "ff", "scorer": "gain"}, {"points": []}),
    ]
    header, _, *body = rows(curve_table(records, "attn"))
    assert header == ["scorer", "10%", "20%", "own threshold"]
    assert body == [
        ["random", "52.0 ± 2.8", "40.0 ± 0.0", "–"],
        ["l0 λ=0.02", "70.0", "60.0", "65.0 at 33%"],
        ["gain at 0", "69.0", "59.0", "–"],
    ]
