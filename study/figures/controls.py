"""Controls beside the paper's protocol: what else could explain its results?"""

from __future__ import annotations

from typing import Any

import pandas as pd

from study.figures import style
from study.figures.style import LOOKS, Drawing
from study.frames import KINDS, SCORERS, rows_of
from study.names import counted, f1_of_curves, f1_of_dev, place_of, split_of_curves
from study.tables import KINDS_PRUNED, point_name


def controls(models: pd.DataFrame) -> Drawing:
    """F1 of each control beside the model that it checks, from `scored_models` of one model.

    A row for each pruned topology, one for the unpruned model; a marker for each continued
    training, every run by itself. "random choice" keeps L0's number in each layer but draws which.
    """
    source = style.one_source(models)
    place, named = place_of(source), control_rows(models)
    names = list(dict.fromkeys(named["name"]))
    with style.canvas(place, 7.2, 1.8 + 0.42 * len(names), legend=4) as (figure, (axes,)):
        for then, rows in named.groupby("then"):
            heights, look = rows["name"].map(names.index), LOOKS[str(then)].points
            style.plot(axes, rows["f1"], heights, look, str(then), markerfacecolor="none")
        style.floor(axes, models["floor"].unique(), of_x=True)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set(xlabel=f1_of_dev(source["data"]))
    return Drawing(figure, f"Controls, {place}: {style.basis(models)}.")


def control_rows(models: pd.DataFrame) -> pd.DataFrame:
    """Rows of `scored_models` with a `name` for what was pruned and by which choice, in order."""
    ranked = models.assign(rank=models["kinds"].map(list(KINDS_PRUNED).index))
    order = ["rank", "multiple", "fraction", "variant", "choice"]
    ascending = [True, True, True, True, False]
    ordered = ranked.sort_values(order, ascending=ascending, na_position="first")
    return ordered.assign(name=[_name(row) for row in rows_of(ordered)]).drop(columns="rank")


def studies(points: pd.DataFrame) -> Drawing:
    """F1 and share removed by each L0 run: a panel for each kind, a marker for each setting."""
    own = points[points["own_threshold"].astype(bool)]
    source = style.one_source(own)
    place, data = place_of(source), source["data"]
    kinds = [kind for kind in KINDS if kind in set(own["kind"])]
    variants = sorted(set(own["variant"]))
    with style.canvas(place, 8.2, 3.6, len(kinds), legend=4) as (figure, axes):
        for axis, kind in zip(axes, kinds, strict=True):
            for variant, runs in own[own["kind"] == kind].groupby("variant"):
                look, name = style.nth(variants.index(variant)), str(variant) or "as in the sweep"
                style.plot(axis, runs["removed"], runs["f1"], look.points, name)
            style.floor(axis, own["floor"].unique())
            axis.set(xlabel=f"{KINDS[kind]}\nremoved (%)", xlim=(-5, 105))
            axis.margins(y=0.1)
        axes[0].set_ylabel(f1_of_curves(data))
    caption = (
        f"L0 at its own threshold, {place}: n = {own['n'].max():,.0f} {split_of_curves(data)} "
        f"questions, {counted(own['seed'].nunique(), 'seed')} of the gates."
    )
    return Drawing(figure, caption)


def _name(row: Any) -> str:
    if row.kinds == "none":
        return "unpruned"
    what = point_name(row)
    if row.scorer and row.scorer != "l0":
        what = f"{SCORERS.get(row.scorer, row.scorer)}, {row.fraction:.0%} of {row.kinds}"
    elif row.fraction == row.fraction:
        what += f" cut at {row.fraction:.0%}"
    return (
        what
        + (f", {row.variant}" * bool(row.variant))
        + (", random choice" * (row.choice == "random"))
    )
