"""The operating point: per kind of gate the largest λ that costs the base model little F1."""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from qaprune_lib.errors import RecordError, SettingsError, real, short
from study.command import command, note, parser
from study.plan.plan import SELECT, Planner
from study.plan.subject import OperatingPoint
from study.records.environment import environment
from study.records.record import RUN, Record, read_record, write_record

note_once = cache(note)


def select_operating_point(
    candidates: Mapping[str, Sequence[Record]], max_loss: float = 5.0
) -> dict[str, Any]:
    """The largest λ per kind that loses less than `max_loss` F1 points (section 4.2.3).

    A run's loss is the F1 of the unpruned model less that of the model cut at the run's own
    threshold, both on the held-out questions; several seeds of one λ are averaged.

    From L0 runs on the base model, by kind. Returns the metrics of a selection: λ by kind; `table`,
    a row per λ; `fallback`, by kind: no λ lost so little, so that the smallest was taken.
    """
    metrics: dict[str, Any] = {"table": [], "fallback": {}}
    for kind, records in candidates.items():
        rows = _rows(kind, records)
        if not rows:
            raise RecordError(f"no L0 run of kind {kind}: no operating point can be selected")
        good = [row["penalty"] for row in rows if row["loss"] < max_loss]
        metrics[kind] = max(good) if good else min(row["penalty"] for row in rows)
        metrics["fallback"][kind] = not good
        metrics["table"] += rows
    return metrics


def _rows(kind: str, records: Sequence[Record]) -> list[dict[str, Any]]:
    points: dict[float, list[tuple[float, float, float]]] = defaultdict(list)
    for record in records:
        metrics: Any = record.metrics
        try:
            [curve] = [curve for curve in metrics["curves"] if curve["kind"] == kind]
            [own] = [point for point in curve["points"] if point["own_threshold"]]
            removed, f1, unpruned, penalty = map(
                float,
                (own["removed"], own["f1"], metrics["unpruned"]["f1"],
                 record.parameters[f"penalty_{kind}"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(
                f"{record.id}: its metrics are not those of L0 on {kind} ({error!r}): delete it, "
                "and the next call makes it again"
            ) from error
        points[penalty].append((removed, f1, unpruned - f1))
    rows = []
    for penalty, values in sorted(points.items()):
        removed, f1, loss = (sum(column) / len(values) for column in zip(*values, strict=True))
        row = {"kind": kind, "penalty": penalty, "removed": removed, "f1": f1, "loss": loss}
        rows.append({**row, "n_seeds": len(values)})
    return rows


def selected_points(planner: Planner) -> dict[str, OperatingPoint]:
    """The operating point of each data set whose selection has a record that can be read."""
    points: dict[str, OperatingPoint] = {}
    for data, selection in planner.selections().items():
        path = planner.record_file(selection.id)
        if os.path.lexists(path):
            try:
                metrics: Any = read_record(path).metrics
                point = {kind: real(metrics[kind]) for kind in selection.candidates}
                if not all(0 <= penalty < math.inf for penalty in point.values()):
                    raise RecordError(f"{path}: its λ are no penalties: {short(point)}")
                points[data] = point
            except (RecordError, KeyError) as error:
                note_once(f"taken for missing: {path}: {error}")
    return points


def record_selection(planner: Planner, data: str) -> Path:
    """Select for one data set from the records of its candidates, and write the record."""
    started, clock = datetime.now(UTC).isoformat(), time.perf_counter()
    if data not in planner.selections():
        raise SettingsError(f"{data!r} has no operating point of its own in this profile")
    selection = planner.selections()[data]
    candidates = {
        kind: [read_record(planner.record_file(run.removeprefix(RUN))) for run in runs]
        for kind, runs in selection.candidates.items()
    }
    first = next(record for records in candidates.values() for record in records)
    record = Record(
        name=selection.name,
        stage=SELECT,
        profile=planner.profile.name,
        provenance=planner.profile.provenance,
        parameters=selection.parameters,
        metrics=select_operating_point(candidates, selection.max_loss),
        started=started,
        seconds=time.perf_counter() - clock,
        source=first.source,
        data_digest=first.data_digest,
        **environment(),
    )
    return write_record(Path(planner.results), record)


@command
def main(arguments: Sequence[str] | None) -> None:
    """Command line: `python -m study select profiles/embedded.yml squad2`."""
    line = parser("select", __doc__, "profile", "source", "results")
    line.add_argument("data", help="name of the questions")
    options = line.parse_args(arguments)
    planner = Planner.read(options.profile, options.source, results=options.results)
    record_selection(planner, options.data)
