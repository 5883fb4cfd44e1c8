"""Records of a profile's runs, made up for tests of what reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from study.plan.parameters import ScoreGates
from study.plan.plan import Planner
from study.plan.profile import Profile
from study.records.record import Record

PROFILE: dict[str, Any] = {
    "name": "small",
    "provenance": "embedded",
    "data": {"squad2": {"source": "embedded"}},
    "base": "embedded",
    "windows": {},
    "finetune": {},
    "curves": {},
    "gates": {},
    "penalties": {"attn": [0.1, 0.2], "ff": [0.001]},
    "multiples": [1],
    "retrain": {},
    "timing": {},
}


def planner(results: str, **changes: Any) -> Planner:
    """A small profile's plan, with its records in a folder."""
    return Planner(Profile.model_validate({**PROFILE, **changes}), results=results)


def record(stage: str, parameters: Mapping[str, JsonValue], **changes: Any) -> Record:
    """A record of the small profile."""
    fields: dict[str, Any] = {
        "stage": stage,
        "profile": "small",
        "provenance": "embedded",
        "parameters": dict(parameters),
        "metrics": {},
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "device": "none",
        "packages": {},
        "data_digest": "0d",
    }
    return Record(**{**fields, **changes})


def l0_record(run: ScoreGates, lost: float) -> Record:
    """The record of an L0 run of one kind, whose own threshold loses so many of 80 F1 points."""
    [kind] = run.kinds
    points = [
        {"removed": 50.0, "f1": 80.0 - 2 * lost - 30, "own_threshold": False},
        {"removed": 40.0, "f1": 80.0 - lost, "own_threshold": True},
    ]
    metrics = {"unpruned": {"f1": 80.0}, "curves": [{"kind": kind, "points": points}]}
    return record("score", run.identity(), metrics=metrics)
