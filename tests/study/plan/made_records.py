"""A small profile, its plan, and records of its runs, made up for tests of what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study.plan.parameters import ScoreGates, StageParameters
from study.plan.plan import SELECT, Planner, Selection
from study.plan.profile import Profile
from study.records.record import Record

PROFILE: dict[str, Any] = {
    "name": "small",
    "provenance": "embedded",
    "data": {"squad2": {"source": "embedded"}},
    "base": "embedded",
    "penalties": {"attn": [0.1, 0.2], "ff": [0.001]},
    "multiples": [1],
}


def planner(results: str | Path = "results", **changes: Any) -> Planner:
    """The plan of the profile, or of one that differs from it, with its records in a folder."""
    profile = Profile.model_validate({**PROFILE, **changes}).located(None)
    return Planner(profile, results=str(results))


def record(run: StageParameters | Selection, metrics: dict[str, Any], **changes: Any) -> Record:
    """A record of a run of the small profile."""
    is_selection = isinstance(run, Selection)
    fields: dict[str, Any] = {
        "name": run.name,
        "stage": SELECT if is_selection else run.stage,
        "profile": "small",
        "provenance": "embedded",
        "parameters": run.parameters if is_selection else run.identity(),
        "metrics": metrics,
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "device": "none",
        "packages": {},
        "commit": None,
        "dirty": False,
        "source": "embedded",
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
    curves = [{"kind": kind, "points": points}]
    return record(run, {"unpruned": {"f1": 80.0}, "curves": curves})
