"""Tables of curves and of single L0 runs: shares removed and what they cost, as text cells."""

from __future__ import annotations

import pandas as pd

from study.claims.curve import MAX_LOSS, removable
from study.frames import KINDS, SERIES
from study.tables import NOTHING, number


def curve_means(points: pd.DataFrame) -> pd.DataFrame:
    """Mean F1 and its sd over seeds, for each curve and share removed, from `curve_points`.

    L0 at its own threshold is one row for each λ, with the mean share that its seeds removed.
    """
    own = points["own_threshold"].astype(bool)
    key = [*SERIES, "finetune", "kind", "scorer", "label", "variant", "own_threshold", "cut"]
    values = points.assign(own_threshold=own, cut=points["removed"].where(~own))
    means: pd.DataFrame = values.groupby(key, dropna=False).agg(
        removed=("removed", "mean"),
        f1=("f1", "mean"),
        sd=("f1", "std"),
        loss=("loss", "mean"),
        floor=("floor", "mean"),
    )
    return means.reset_index().drop(columns="cut")


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
    spread = means["sd"].map(" ± {:.1f}".format).where(means["sd"].notna(), "")
    means["cell"] = means["f1"].map("{:.1f}".format) + spread + (" at " + shares).where(own, "")
    means["column"] = shares.where(~own, "own threshold")
    table = means.drop_duplicates(["label", "column"]).pivot(
        index="label", columns="column", values="cell"
    )
    order = sorted(set(shares[~own]), key=lambda share: float(share[:-1]))
    table = table.reindex(columns=[*order, "own threshold"]).fillna("–")
    table[NOTHING] = means.groupby("label")["floor"].mean().map("{:.1f}".format)
    return table.rename_axis("scorer").rename_axis(columns=None).reset_index()


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
    table = own.groupby(["kind", "penalty", "variant"])[["removed", "f1", "loss", "floor"]].mean()
    table = table.map(number, decimals=1).reset_index().replace({"kind": KINDS})
    table["variant"] = table["variant"].replace("", "as in the sweep")
    table["penalty"] = table["penalty"].map("{:g}".format)
    return table.set_axis(
        ["gates", "λ", "setting", "removed (%)", "F1", "F1 lost", NOTHING], axis=1
    )


def reading_cells(pairs: pd.DataFrame, setting: str) -> pd.DataFrame:
    """Rows of `l0_runs` that differ in one setting, as `readings` finds them."""
    numbers = {"removed": "% removed", "f1": "F1", "loss": "F1 lost", "floor": NOTHING}
    table = pairs[["kind", "penalty", "seed", setting, *numbers]].replace({"kind": KINDS})
    table["penalty"] = table["penalty"].map("{:g}".format)
    table[list(numbers)] = table[list(numbers)].map(number, decimals=1)
    return table.rename(columns={"kind": "gates", "penalty": "λ", **numbers})


def gain_cells(points: pd.DataFrame) -> pd.DataFrame:
    """F1 of one kind of gates by share removed, a row for each way to read gain."""
    table = points.pivot_table(index="label", columns=points["removed"].round(), values="f1")
    table = table.map("{:.1f}".format, na_action="ignore").fillna("–")
    table = table.rename(columns="{:.0f}%".format)
    table[NOTHING] = points.groupby("label")["floor"].mean().map("{:.1f}".format)
    return table.reset_index(names="scorer")


def run_cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Rows of `l0_runs` by their settings, means over seeds."""
    numbers = {"penalty": "λ", "initial_mean": "start", "learning_rate": "learning rate"}
    numbers |= {"steps": "steps", "reach": "reach"}
    settings = {"kind": "gates", **numbers, "variant": "changed"}
    grouped = runs.groupby(list(settings), dropna=False)[["removed", "f1", "loss", "floor"]]
    table = grouped.size().map(str).rename("seeds").to_frame()
    table[["% removed", "F1", "F1 lost", NOTHING]] = grouped.mean().map(number, decimals=1)
    table = table.reset_index()
    table[list(numbers)] = table[list(numbers)].map("{:g}".format)
    return table.rename(columns=settings)
