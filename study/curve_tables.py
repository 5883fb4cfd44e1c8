"""Tables of curves and of single L0 runs: shares removed and what they cost, as text cells."""

from __future__ import annotations

import pandas as pd

from study.claims.curve import MAX_LOSS, removable
from study.frames import KINDS, SERIES
from study.names import number
from study.tables import NOTHING, plus_minus, with_floor

_RESULTS = {"removed": "% removed", "f1": "F1", "loss": "F1 lost", "floor": NOTHING}
_SETTINGS = {"penalty": "λ", "initial_mean": "start", "learning_rate": "learning rate"}
_SETTINGS |= {"steps": "steps", "reach": "reach"}
"""Columns of `l0_runs`, and their headings."""


def curve_means(points: pd.DataFrame) -> pd.DataFrame:
    """Mean F1 and its sd over seeds for each curve and share removed; L0's own threshold by λ."""
    own = points["own_threshold"].astype(bool)
    key = [*SERIES, "finetune", "kind", "scorer", "label", "variant", "own_threshold", "cut"]
    values = points.assign(own_threshold=own, cut=points["removed"].where(~own), sd=points["f1"])
    how = {**dict.fromkeys(["removed", "f1", "loss", "floor"], "mean"), "sd": "std"}
    return values.groupby(key, dropna=False).agg(how).reset_index().drop(columns="cut")


def drawn_curves(points: pd.DataFrame) -> pd.DataFrame:
    """Rows of `curve_means` as the paper draws them, with the `name` of their curve.

    L0 is taken at its own thresholds, with each setting that studies changed apart.
    """
    means = curve_means(points)
    l0 = means["scorer"] == "l0"
    variants = means["variant"].map(lambda variant: f"L0, {variant}" if variant else "L0")
    named = means.assign(name=means["label"].where(~l0, variants))
    return named[~l0 | means["own_threshold"]].sort_values("removed")


def curve_cells(points: pd.DataFrame) -> pd.DataFrame:
    """F1 ± sd over seeds, a row for each scorer, a column for each share; one string a cell.

    Beside the cuts of a ranking stand L0 at its own threshold, as in the paper, and the floor.
    """
    means = curve_means(points)
    own, shares = means["own_threshold"], means["removed"].map("{:.0f}%".format)
    means["cell"] = plus_minus(means["f1"], means["sd"]) + (" at " + shares).where(own, "")
    means["column"] = shares.where(~own, "own threshold")
    once = means.drop_duplicates(["label", "column"])
    order = sorted(set(shares[~own]), key=lambda share: float(share[:-1]))
    table = once.pivot(index="label", columns="column", values="cell")
    table = table.reindex(columns=[*order, "own threshold"])
    return with_floor(table, means, "label", "scorer")


def removable_text(points: pd.DataFrame) -> str:
    """What each scorer can remove at under `MAX_LOSS` F1, by the rule of the claims."""
    return (
        f"The share of {KINDS[points['kind'].iloc[0]]} that can go at under {MAX_LOSS:g} F1 lost, "
        f"linear between the points: {'; '.join(removable_shares(points))}."
    )


def removable_shares(points: pd.DataFrame) -> list[str]:
    """The name of each curve with that share, the largest first."""
    found = []
    for name, curve in drawn_curves(points).groupby("name"):
        share = float(removable([0, *curve["removed"]], [0, *curve["loss"]]))
        bound = "at least " if curve["loss"].iloc[-1] < MAX_LOSS else ""
        found.append((-share, f"{name} {bound}{share:.0f}%"))
    return [text for _, text in sorted(found)]


def layer_cells(layers: pd.DataFrame) -> pd.DataFrame:
    """Percentage remaining, a row for each kind and multiple of λ, a column for each layer."""
    means = layers.groupby(["kind", "multiple", "layer"])["remaining"].mean().unstack()
    table = means.map("{:.0f}".format).reset_index()
    table["kind"] = table["kind"].map(KINDS)
    table["multiple"] = table["multiple"].map("×{:g}".format)
    table.columns = ["remaining (%)", "λ", *(f"layer {layer}" for layer in means.columns)]
    return table


def middle_text(layers: pd.DataFrame) -> str:
    """What the middle third of the layers keeps against those outside."""
    third = layers["n_layers"].iloc[0] / 3
    middle = layers["layer"].between(third + 0.5, 2 * third + 0.5)
    means = layers.assign(middle=middle).groupby(["kind", "middle"])["remaining"].mean().unstack()
    found = [
        f"{KINDS[str(kind)]} {row[True]:.1f}% against {row[False]:.1f}%"
        for kind, row in means.iterrows()
    ]
    first, last = layers["layer"][middle].min(), layers["layer"][middle].max()
    return (
        f"The middle layers ({first} to {last}) keep, against those outside, averaged over all "
        f"multiples and seeds: {'; '.join(found)}."
    )


def study_cells(own: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of L0 runs at their own threshold, a row for each λ and setting."""
    means = own.groupby(["kind", "penalty", "variant"])[list(_RESULTS)].mean().reset_index()
    return _in_words(means.replace({"variant": {"": "as in the sweep"}}))


def reading_cells(pairs: pd.DataFrame, setting: str) -> pd.DataFrame:
    """Rows of `l0_runs` that differ in one setting, as `readings` finds them."""
    return _in_words(pairs[["kind", "penalty", "seed", setting, *_RESULTS]])


def run_cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Rows of `l0_runs` by their settings, means over seeds."""
    grouped = runs.groupby(["kind", *_SETTINGS, "variant"], dropna=False)[list(_RESULTS)]
    means = grouped.mean()
    means.insert(0, "seeds", grouped.size().map(str))
    return _in_words(means.reset_index())


def _in_words(runs: pd.DataFrame) -> pd.DataFrame:
    """Columns of `l0_runs` as text, under their headings."""
    settings, results = [name for name in _SETTINGS if name in runs], list(_RESULTS)
    table = runs.replace({"kind": KINDS}).astype(dict.fromkeys(settings + results, object))
    table[settings] = table[settings].map("{:g}".format)
    table[results] = table[results].map(number, decimals=1)
    headings = {"kind": "gates", "variant": "setting", **_SETTINGS, **_RESULTS}
    return table.rename(columns=headings)


def gain_cells(points: pd.DataFrame) -> pd.DataFrame:
    """F1 of one kind of gates by share removed, a row for each way to read gain."""
    table = points.pivot_table(index="label", columns=points["removed"].round(), values="f1")
    table = table.map("{:.1f}".format, na_action="ignore").rename(columns="{:.0f}%".format)
    return with_floor(table, points, "label", "scorer")
