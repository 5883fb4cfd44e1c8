"""Controls beside the paper's protocol: what else could explain its results?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from study.figures.style import (
    LOOKS,
    legend_below,
    look,
    one_source,
    panels,
    paper_style,
)
from study.frames import KINDS, rows_of
from study.names import counted, f1_of_curves, f1_of_dev, place_of, split_of_curves
from study.tables import point_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def controls(models: pd.DataFrame) -> Figure:
    """F1 of each control beside the model that it checks, from `scored_models` of one model.

    A row for each pruned topology, one for the unpruned model; a marker for each continued
    training, every run by itself. "random choice" keeps L0's number in each layer but draws which.

    Raises:
        RecordError: the rows are of several profiles, data sets or models, or of none.
    """
    source = one_source(models)
    named = control_rows(models)
    names = list(dict.fromkeys(named["name"]))
    with paper_style():
        figure, (axes,) = panels(7.2, 1.8 + 0.42 * len(names))
        for then, rows in named.groupby("then", sort=True):
            style = LOOKS[str(then)]
            axes.plot(
                rows["f1"],
                [names.index(name) for name in rows["name"]],
                color=style.color,
                marker=style.marker,
                linestyle="none",
                markerfacecolor="none",
                label=str(then),
            )
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set(xlabel=f1_of_dev(source["data"]))
        figure.suptitle(place_of(source), fontsize="medium")
        legend_below(figure, axes, columns=4)
    return figure


def control_rows(models: pd.DataFrame) -> pd.DataFrame:
    """Rows of `scored_models` with a `name` for what was pruned and by which choice, in order."""
    ranks = {kinds: rank for rank, kinds in enumerate(("none", "attn", "ff", "both"))}
    order = ["_rank", "multiple", "fraction", "variant", "choice"]
    ordered = models.assign(_rank=models["kinds"].map(ranks)).sort_values(
        order, ascending=[True, True, True, True, False], na_position="first"
    )
    ordered = ordered.drop(columns="_rank")
    return ordered.assign(name=[_name(row) for row in rows_of(ordered)])


def describe_controls(models: pd.DataFrame) -> str:
    """The caption's facts."""
    source = one_source(models)
    seeds = models["gate_seed"].nunique()
    return (
        f"Controls, {place_of(source)}: n = {models['n'].max():,.0f} dev questions, "
        f"{counted(seeds, 'seed')} of the gates."
    )


def alt_controls(models: pd.DataFrame) -> str:
    """Mean F1 of each row and training in words."""
    means = control_rows(models).groupby(["name", "then"], sort=False)["f1"].mean()
    rows = rows_of(means.reset_index())
    return "; ".join(f"{row.name}, {row.then}: {row.f1:.1f}" for row in rows)


def studies(points: pd.DataFrame) -> Figure:
    """What L0's settings do: F1 and share removed by each run at its own threshold.

    A panel for each kind of gate, a marker for each setting that a study changed. From
    `curve_points` of one model; raises as `controls`.
    """
    own = points[points["own_threshold"].astype(bool)]
    source = one_source(own)
    kinds = [kind for kind in KINDS if kind in set(own["kind"])]
    positions = {variant: place for place, variant in enumerate(sorted(set(own["variant"])))}
    with paper_style():
        figure, axes = panels(8.2, 3.6, len(kinds))
        for axis, kind in zip(axes, kinds, strict=True):
            rows = own[own["kind"] == kind]
            for variant, runs in rows.groupby("variant", sort=True):
                style = look("", positions[variant])
                axis.plot(
                    runs["removed"],
                    runs["f1"],
                    color=style.color,
                    marker=style.marker,
                    linestyle="none",
                    label=str(variant) or "as in the sweep",
                )
            axis.set(xlabel=f"{KINDS[kind]}\nremoved (%)")
            axis.set_xlim(-5, 105)
            axis.margins(y=0.1)
        axes[0].set_ylabel(f1_of_curves(str(source["data"])))
        legend_below(figure, *axes, columns=4)
        figure.suptitle(place_of(source), fontsize="medium")
    return figure


def describe_studies(points: pd.DataFrame) -> str:
    """The caption's facts."""
    own = points[points["own_threshold"].astype(bool)]
    source, seeds = one_source(own), own["seed"].nunique()
    return (
        f"L0 at its own threshold, {place_of(source)}: n = {own['n'].max():,.0f} "
        f"{split_of_curves(str(source['data']))} questions, "
        f"{counted(seeds, 'seed')} of the gates."
    )


def alt_studies(points: pd.DataFrame) -> str:
    """Each run in words."""
    own = points[points["own_threshold"].astype(bool)]
    return "; ".join(
        f"{row.label} on {KINDS[str(row.kind)]}: {row.removed:.0f}% removed, F1 {row.f1:.1f}"
        for row in rows_of(own)
    )


def _name(row: Any) -> str:
    if row.kinds == "none":
        return "unpruned"
    what = point_name(row)
    if row.scorer and row.scorer != "l0":
        what = f"{row.scorer.replace('_', '-')}, {row.fraction:.0%} of {row.kinds}"
    elif row.fraction == row.fraction:
        what += f" cut at {row.fraction:.0%}"
    if row.variant:
        what += f", {row.variant}"
    return f"{what}, random choice" if row.choice == "random" else what
