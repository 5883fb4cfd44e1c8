"""Tables of runs: what records say, averaged over seeds, as frames of numbers and of text cells."""

from __future__ import annotations

from typing import Any

import pandas as pd

from study.frames import SERIES, by_l0, rows_of
from study.names import DATA, number

KINDS_PRUNED = {"none": "unpruned", "attn": "attn", "ff": "ff", "both": "ff + attn"}
"""What was pruned, by `kinds` of `scored_models`, in the words of the paper's Table 2."""

THEN = ("fine-tuned", "not retrained", "cross-entropy", "distillation")
"""What follows pruning, in the order of the tables."""

NOTHING = "answering nothing"
"""The heading of the column of the floor: F1 of a model that answers nothing, in percent."""

CELLS = {
    "runs": ("runs", 0),
    "F1": ("f1", 1),
    "F1 not retrained": ("f1_not_retrained", 1),
    "HasAns": ("has_answer_f1", 1),
    "NoAns": ("no_answer_f1", 1),
    "LA (F1)": ("long_f1", 1),
    "SA (F1)": ("short_f1", 1),
    NOTHING: ("floor", 1),
    "% attn removed": ("attn_removed", 1),
    "% ff removed": ("ff_removed", 1),
    "parameters (M)": ("millions", 1),
    "size (MiB)": ("size_mib", 0),
    "time (s)": ("seconds", 2),
    "speed-up": ("speedup", 2),
    "MACs ratio": ("macs_ratio", 2),
}
"""Columns of printed tables: the column of `operating_points`, and its decimals."""

_POINT = [*SERIES, "kinds", "multiple", "penalty_attn", "penalty_ff", "gates_from", "weights_from"]
_ENDS = {"low": "min", "high": "max"}
_NO_MEDIANS = {"runs", "f1_not_retrained"}
_MEDIANS = ["n", "parameters", *(name for name, _ in CELLS.values() if name not in _NO_MEDIANS)]


def operating_points(models: pd.DataFrame) -> pd.DataFrame:
    """Unpruned models, and models pruned by L0 at its own threshold (Table 2).

    From `scored_models`, one row for each profile, data set, model, kinds pruned, λ, origin of
    gates and weights, and `then`. F1, shares and sizes are medians over `runs` (seeds), `f1_low`
    and `f1_high` their extremes; speed is that of the one model that was timed; `f1_not_retrained`
    is of the same gates before more training.
    """
    own = models[by_l0(models) & models["variant"].eq("") | models["kinds"].eq("none")]
    own = own.assign(millions=own["parameters"] / 1e6, f1_low=own["f1"], f1_high=own["f1"])
    ends = {f"{name}_{end}": how for name in ("f1", "speedup") for end, how in _ENDS.items()}
    how = {"run": "nunique", **dict.fromkeys(_MEDIANS, "median"), **ends}
    frame = own.groupby([*_POINT, "then"], dropna=False, sort=False).agg(how)
    frame = frame.rename(columns={"run": "runs"}).reset_index()
    before = frame[frame["then"] == "not retrained"][[*_POINT, "f1"]]
    frame = frame.merge(before.rename(columns={"f1": "f1_not_retrained"}), "left", on=_POINT)
    ranks = {"kinds": list(KINDS_PRUNED).index, "then": THEN.index}
    return frame.sort_values(
        [*SERIES, "multiple", "penalty_attn", "penalty_ff", "kinds", "then"],
        key=lambda column: column.map(ranks[column.name]) if column.name in ranks else column,
        kind="stable",
        na_position="first",
        ignore_index=True,
    )


def point_name(row: Any) -> str:
    """An operating point as the paper's Table 2 names it, for a row of `operating_points`."""
    if row.kinds == "none":
        return "unpruned"
    origin = f", {gates_origin(row)}" if gates_origin(row) else ""
    if row.multiple == row.multiple:
        return f"{KINDS_PRUNED[row.kinds]} (×{row.multiple:g}){origin}"
    penalties = {"attn": row.penalty_attn, "ff": row.penalty_ff}
    given = [f"{kind} λ={value:g}" for kind, value in penalties.items() if value == value]
    return " + ".join(given) + origin


def gates_origin(row: Any) -> str:
    """Where gates, or gates and weights, come from, if not from the questions of the row."""
    if row.gates_from in ("", row.data):
        return ""
    carried = "gates" if row.weights_from == row.data else "gates and weights"
    return f"{carried} of {DATA.get(str(row.gates_from), str(row.gates_from))}"


def cells(points: pd.DataFrame, *headings: str) -> pd.DataFrame:
    """Columns of `operating_points` by their headings in `CELLS`, one string a cell.

    F1 and speed-up have their extremes in brackets, over seeds and over rounds. The speed-up is the
    median over rounds of the unpruned model's time divided by this one's; the ratio of
    multiply-accumulates is its limit.
    """

    def cell(row: pd.Series[Any], name: str, decimals: int) -> str:
        low, high = (number(row.get(f"{name}_{end}"), decimals) for end in ("low", "high"))
        spread = f" ({low}–{high})" if row.get(f"{name}_low") != row.get(f"{name}_high") else ""
        return number(row[name], decimals) + spread * (low != "–")

    rows = [row for _, row in points.iterrows()]
    return pd.DataFrame({each: [cell(row, *CELLS[each]) for row in rows] for each in headings})


def point_cells(points: pd.DataFrame, *headings: str) -> pd.DataFrame:
    """The same, with what was pruned and what followed in front."""
    named = cells(points, *headings)
    named.insert(0, "model", [point_name(row) for row in rows_of(points)])
    named.insert(1, "then", points["then"].tolist())
    return named


def losses_text(points: pd.DataFrame) -> str:
    """What the rows of `operating_points` that prune both kinds lose, and gain in speed."""
    full = points[points["kinds"] == "none"]["f1"].iloc[0]
    found = [
        f"{point_name(row)}, {row.then}, {number(full - row.f1, 1)} F1 lost"
        + (f" at {row.speedup:.2f} times the speed" if row.speedup == row.speedup else "")
        for row in rows_of(points[points["kinds"] == "both"])
    ]
    return f"Against the unpruned {full:.1f}: {'; '.join(found) or 'none has both kinds pruned'}."


def plus_minus(mean: pd.Series, sd: pd.Series) -> pd.Series:
    """Means ± sd as text; without the latter where it is not known."""
    return mean.map("{:.1f}".format) + sd.map(" ± {:.1f}".format).where(sd.notna(), "")


def with_floor(table: pd.DataFrame, rows: pd.DataFrame, by: str, heading: str) -> pd.DataFrame:
    """A table with the floor of its rows in a last column, and what they are called in a first."""
    table[NOTHING] = rows.groupby(by)["floor"].mean().map("{:.1f}".format)
    return table.fillna("–").rename_axis(columns=None).reset_index(names=heading)


def control_cells(named: pd.DataFrame) -> pd.DataFrame:
    """F1 ± sd over seeds of `control_rows`, a row for each model, a column for what followed."""
    f1 = named.groupby(["name", "then"], sort=False)["f1"]
    table = plus_minus(f1.mean(), f1.std()).unstack()
    table = table.reindex(named["name"].unique())[[then for then in THEN if then in table]]
    return with_floor(table, named, "name", "model")


def choice_text(models: pd.DataFrame) -> str:
    """What L0's choice of slices is worth over a random one of the same numbers in each layer."""
    own = models[(models["gates_from"] == models["data"]) & (models["variant"] == "")]
    key = ["multiple", "gate_seed", "then"]
    pairs = own[own["kinds"] == "both"].pivot_table(index=key, columns="choice", values="f1")
    if not {"scores", "random"} <= set(pairs):
        return ""
    gains = (pairs["scores"] - pairs["random"]).dropna().groupby("then").mean()
    return (
        "L0's choice minus the random choice with the same numbers per layer, in F1 points, mean "
        f"over seeds and multiples: {'; '.join(f'{k} {number(v, 1)}' for k, v in gains.items())}."
    )
