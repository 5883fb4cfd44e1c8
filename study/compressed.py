"""What `compress` reached in one call: a table of its runs (not in the paper)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from study.frames import SERIES
from study.linked import Runs
from study.names import counted, number
from study.records.record import Record

if TYPE_CHECKING:
    import pandas as pd


def compressions(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each run of the stage, and its steps.

    F1 is on all dev questions, in percent, as removed shares are; `speedup` is over the unpruned
    model, in rounds in turns on the run's device. `steps` come in their order, the unpruned model
    first.
    """
    import pandas as pd

    runs = Runs(records)
    rows = []
    for record in runs.of("compress"):
        parameters: Any = record.parameters
        metrics: Any = record.metrics
        made, tuned = metrics["compression"], runs.find(parameters["model"], record)
        whole: Any = None if tuned is None else tuned.metrics
        last = made["steps"][made["chosen"]]
        small = made["times"][1]
        rows.append(
            {
                "profile": record.profile,
                "provenance": record.provenance,
                "data": parameters["data"],
                "model": runs.model_of(record),
                "run": record.id,
                "commit": record.commit,
                "asked": f"{100 * parameters['macs']:g}% of the MACs"
                if parameters["speedup"] is None
                else f"{parameters['speedup']:g} times as fast",
                "budget": parameters["budget"],
                "seed": parameters["seed"],
                "unpruned_f1": None if whole is None else whole["dev"]["f1"],
                "f1": metrics["dev"]["f1"],
                "n": metrics["dev"]["at_zero"]["total"],
                **{name: last[name] for name in ("attn", "ff", "what")},
                **{name: small[name] for name in ("speedup", "speedup_low", "speedup_high")},
                "timed_on": f"{small['device']}, batch size {small['batch_size']}",
                "minutes": made["seconds"] / 60,
                "steps": made["steps"],
            }
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=pd.Index([*SERIES, "run"]))


def with_most_time(rows: pd.DataFrame) -> pd.DataFrame:
    """Of runs of one model that were asked for the same, those whose budget took longest."""
    if rows.empty:
        return rows
    series = [*SERIES, "asked"]
    took = rows.groupby([*series, "budget"])["minutes"].transform("median")
    return rows[took == took.groupby([rows[name] for name in series]).transform("max")]


def calls_text(rows: pd.DataFrame) -> str:
    """What was lost at which speed, in how many minutes: medians over seeds, of one model."""
    lost = rows["unpruned_f1"] - rows["f1"]
    calls = rows.assign(lost=lost).groupby(["asked", "budget"], sort=False)
    said = "; ".join(
        f"{number(call['lost'].median(), 1)} F1 lost at {number(call['speedup'].median(), 2)} "
        f"times the speed, in {number(call['minutes'].median(), 0)} minutes"
        + (f" ({counted(len(call), 'seed')})" if len(call) > 1 else "")
        for _, call in calls
    )
    return f"against the unpruned {number(rows['unpruned_f1'].iloc[0], 1)}: {said}"


def compression_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one model as text cells."""
    import pandas as pd

    def spread(row: Any) -> str:
        low, high = number(row.speedup_low, 2), number(row.speedup_high, 2)
        return f"{number(row.speedup, 2)} ({low}–{high})"

    each = [row for _, row in rows.iterrows()]
    return pd.DataFrame(
        {
            "asked": rows["asked"],
            "budget": rows["budget"],
            "kept model": rows["what"],
            "F1 unpruned": [number(row.unpruned_f1, 1) for row in each],
            "F1": [number(row.f1, 1) for row in each],
            "% attn removed": [number(row.attn, 1) for row in each],
            "% ff removed": [number(row.ff, 1) for row in each],
            "speed-up": [spread(row) for row in each],
            "minutes": [number(row.minutes, 1) for row in each],
        }
    )


def rival_cells(record: dict[str, Any]) -> pd.DataFrame:
    """Models at one share of the arithmetic, from the record of the benchmark `rivals`."""
    import pandas as pd

    models: dict[str, dict[str, Any]] = record["models"]
    speeds = {row["what"]: row for row in record["rows"] if row["what"].startswith("speed: ")}
    cells = []
    for (name, model), row in zip(models.items(), speeds.values(), strict=True):
        low, middle, high = (number(row[field], 2) for field in ("low", "median", "high"))
        cells.append(
            {
                "pruned by": name,
                "% attn removed": number(model["attn"], 1),
                "% ff removed": number(model["ff"], 1),
                "F1": number(model["f1"], 1),
                "F1 lost": number(record["f1"] - model["f1"], 1),
                "speed-up": f"{middle} ({low}–{high})",
            }
        )
    return pd.DataFrame(cells)


def step_cells(steps: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """The steps of one run as text cells."""
    import pandas as pd

    return pd.DataFrame(
        {
            "step": step["what"],
            "F1, held-out": number(step["f1"], 1),
            "% attn removed": number(step["attn"], 1),
            "% ff removed": number(step["ff"], 1),
            "seconds": number(step["seconds"], 0),
        }
        for step in steps
    )
