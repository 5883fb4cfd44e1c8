"""Stages that compute nothing, for tests of the graph: they wait, write a model, and a record.

Each run notes in `events`, in the working folder, that it began and that it ended; it fails where
a line of `failing` is a part of its id.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qaprune_lib.cache import write_atomically
from study.plan.parameters import STAGES, DecodeTime, ScoreGates, StageParameters
from study.records.record import FINISHED, write_record
from tests.study.plan.made_records import record

WHOLE = "whole"


def run(stage: str, values: Mapping[str, Any]) -> None:
    """What a stand-in's notebook does; between any two steps it may be killed."""
    parameters = STAGES[stage].read(values)
    name = parameters.id
    folder = Path(parameters.runs) / parameters.provenance / parameters.profile
    _note("begin", name)
    (folder / name).mkdir(parents=True, exist_ok=True)
    alone = os.open(folder / name / ".alone", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel frees it as a process dies
    except OSError:
        _note("doubled", name)
    for above in parameters.upstream():
        check_artifacts(folder / above)
    failing = Path("failing")
    if failing.exists() and any(part in name for part in failing.read_text().split()):
        raise RuntimeError(f"{name} was told to fail")
    if stage == "score":
        _cut_short(folder / name / ".scores.json.1")
        write_atomically(folder / name / "scores.json", WHOLE)
    elif stage != "time":
        _save_model(folder / name)
    write_atomically(folder / name / FINISHED, name)
    made = record(parameters, metrics_of(parameters))
    place = Path(parameters.results) / parameters.provenance / parameters.profile / f"{name}.json"
    _cut_short(place.with_name(f".{place.name}.0.tmp"))
    write_record(Path(parameters.results), made)
    _note("end", name)


def check_artifacts(folder: Path) -> None:
    """Raise AssertionError unless what a run left for others is there and whole."""
    assert (folder / FINISHED).is_file(), folder
    files = {path.name: path.read_text() for path in folder.glob("model/[!.]*")}
    files |= {path.name: path.read_text() for path in folder.glob("scores.json")}
    assert files in ({"scores.json": WHOLE}, {"1": WHOLE, "2": WHOLE}, {}), f"{folder}: {files}"


def events(folder: Path, kind: str) -> list[str]:
    """Ids of the runs that began, or ended, in order."""
    path = folder / "events"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1] for line in lines if line.split()[0] == kind]


def _save_model(folder: Path) -> None:
    temporary = folder / ".model"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in ("1", "2"):
        (temporary / name).write_text(WHOLE[:2])
        _wait()
        (temporary / name).write_text(WHOLE)
    shutil.rmtree(folder / "model", ignore_errors=True)
    temporary.replace(folder / "model")


def _cut_short(path: Path) -> None:
    """A half-written file under a temporary name, which stays there if the run dies now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(WHOLE[:2])
    _wait()
    path.unlink()


def metrics_of(parameters: StageParameters) -> dict[str, Any]:
    """What the record of a run says."""
    metrics: dict[str, Any] = {}
    if isinstance(parameters, ScoreGates):
        metrics = {"unpruned": {"f1": 80.0}, "curves": []}
        for kind, penalty in parameters.penalties().items():
            if penalty is not None:  # 0.2 loses 4 points, 0.4 loses 16
                own = {"removed": 100 * penalty, "f1": 80 - 100 * penalty**2, "own_threshold": True}
                metrics["curves"].append({"kind": kind, "points": [own]})
    if isinstance(parameters, DecodeTime):
        metrics = {name: {"speedup": 1.0} for name in parameters.models}
    return metrics


def _note(kind: str, name: str) -> None:
    with open("events", "a") as file:
        file.write(f"{kind} {name}\n")


def _wait() -> None:
    least, most = os.environ.get("STAND_IN_SECONDS", "0-0.1").split("-")
    time.sleep(random.SystemRandom().uniform(float(least), float(most)))
