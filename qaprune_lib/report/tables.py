"""Tables of runs, as Markdown text, from records alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qaprune_lib.report.records import Record


def operating_point_table(records: Sequence[Record]) -> str:
    """A row per model of one profile: F1 at the fitted threshold, sizes and decoding speed.

    The first row is the unpruned model. The speed-up is the median over rounds of the unpruned
    model's time divided by this one's, with the extremes of the rounds.

    Raises:
        ValueError: the records hold no timing run.
    """
    times: dict[str, Any] | None = next((r.metrics for r in records if r.stage == "time"), None)
    if times is None:
        raise ValueError("no record of stage 'time': run the profile to its end first")
    sizes: dict[str, Any] = {
        str(r.parameters["point"]): r.metrics for r in records if r.stage == "prune"
    }
    unpruned = next(name for name in times if name not in sizes)
    rows: list[list[str]] = []
    for record in records:
        if record.stage not in ("finetune", "prune", "retrain"):
            continue
        point = str(record.parameters.get("point", unpruned))
        rows.append([point, _training(record), *_cells(record.metrics, sizes, times, point)])
    order = [unpruned, *sizes]
    rows.sort(key=lambda cells: order.index(cells[0]))
    header = ["model", "then", "F1", "HasAns", "NoAns", "% heads removed", "% ff removed"]
    return _markdown([*header, "parameters (M)", "speed-up (range over rounds)"], rows)


def curve_table(records: Iterable[Record], kind: str) -> str:
    """Best F1 against the share of one kind removed, a row per scorer.

    Random is the mean over its seeds, ± their standard deviation. L0 has a row per λ; the last
    column is the run cut at its own threshold, as in the paper, all others are cuts of a ranking.
    """
    curves = [r for r in records if r.stage == "curve" and r.parameters["kind"] == kind]
    by_name: dict[str, list[Any]] = {}
    for record in curves:
        by_name.setdefault(_scorer(record), []).append(record.metrics["points"])
    rows, header = [], ["scorer"]
    for name, runs in by_name.items():
        cuts = [[p for p in points if not p["own_threshold"]] for points in runs]
        own = [p for points in runs for p in points if p["own_threshold"]]
        header = ["scorer", *(f"{p['removed']:.0f}%" for p in cuts[0]), "own threshold"]
        cells = [_mean([c[i]["f1"] for c in cuts]) for i in range(len(cuts[0]))]
        last = f"{own[0]['f1']:.1f} at {own[0]['removed']:.0f}%" if own else "–"
        rows.append([name, *cells, last])
    return _markdown(header, rows)


def _cells(metrics: Any, sizes: Mapping[str, Any], times: Any, point: str) -> list[str]:
    removed = sizes.get(point, {}).get("removed", {"attn": 0.0, "ff": 0.0})
    scores, time = metrics["dev"]["fitted"], times[point]
    return [
        f"{scores['f1']:.1f}",
        _number(scores["HasAns_f1"]),
        _number(scores["NoAns_f1"]),
        f"{removed['attn']:.0f}",
        f"{removed['ff']:.0f}",
        f"{metrics['parameters'] / 1e6:.1f}",
        f"{time['speedup']:.2f} ({time['speedup_low']:.2f} to {time['speedup_high']:.2f})",
    ]


def _training(record: Record) -> str:
    if record.stage == "retrain":
        return str(record.parameters["objective"]).replace("_", "-")
    return {"finetune": "fine-tuned", "prune": "not retrained"}[record.stage]


def _scorer(record: Record) -> str:
    parameters: Any = record.parameters
    name = str(parameters["scorer"])
    if "penalty" in parameters:
        return f"{name} λ={next(iter(parameters['penalty'].values())):g}"
    return f"{name} at 0" if parameters.get("at") == 0 else name


def _mean(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
