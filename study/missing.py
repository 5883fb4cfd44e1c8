"""Which runs of a profile have no record, for the pages that would draw them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from study.frames import KINDS
from study.plan.plan import SELECT, Planner
from study.plan.profile import read_profile
from study.records.record import Record, run_id

PROFILES = Path("profiles")
"""Where profiles lie, from the root of the repository."""


def missing_runs(profile_name: str, records: Iterable[Record]) -> list[str]:
    """Ids of the runs that a profile asks for and that have no complete record.

    What follows from a selection that is not there yet counts as the selection alone.

    Raises:
        SettingsError: there is no such profile under `profiles/`, or it is not one.
    """
    profile = read_profile(PROFILES / f"{profile_name}.yml", source="-")
    planner = Planner(profile)
    own = [r for r in records if r.profile == profile_name and r.status == "complete"]
    have = {run_id(record.stage, record.parameters) for record in own}
    points: dict[str, dict[str, float]] = {}
    for record in own:
        if record.stage == SELECT:
            chosen: Any = record.metrics
            points[str(record.parameters["data"])] = {
                kind: chosen[kind] for kind in KINDS if kind in chosen
            }
    return [name for name in planner.ids(points) if name not in have]


def profile_names() -> list[str]:
    """Names of the profiles under `profiles/`."""
    return sorted(path.stem for path in PROFILES.glob("*.yml"))


def how_to_make(profile_name: str) -> str:
    """The command that makes the records that a profile lacks."""
    path = PROFILES / f"{profile_name}.yml"
    command = f"python -m study.plan.graph {path}"
    lacks_source = any(data.source is None for data in read_profile(path).data.values())
    return f"{command} --source FOLDER" if lacks_source else command
