"""Figures 1 and 2 of the paper, and section 4.2.2 on embeddings: F1 against the share removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qaprune_lib.errors import RecordError
from study.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    LOOKS,
    PUBLISHED,
    SKY,
    Look,
    legend_below,
    look,
    one_source,
    panels,
    paper_style,
)
from study.frames import KINDS
from study.names import counted, f1_of_dev, place_of
from study.paper.published_text import of_figure
from study.plan.profile import NQ

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LOSS = 5.0
"""F1 points that the paper's statements on Figures 1 and 2 allow to be lost (section 4.2.2)."""

OWN = (Look(BLUE, "*", "-"), Look(BLACK, "P", "-"), Look(SKY, "X", "-"), Look(GREEN, "h", "-"))
"""L0 at its own threshold: the sweep, then the settings that studies change."""


def figure1(points: pd.DataFrame) -> Figure:
    """F1 against the share of attention heads removed, from `curve_points` of one model.

    Raises:
        RecordError: the rows are of several profiles, data sets or models, or of none.
    """
    return sparsity_curves(points, "attn", published_figure=1)


def figure2(points: pd.DataFrame) -> Figure:
    """F1 against the share of feed-forward activations removed; otherwise as `figure1`."""
    return sparsity_curves(points, "ff", published_figure=2)


def embeddings(points: pd.DataFrame) -> Figure:
    """F1 against the share of embedding dimensions removed, L0 with every setting that was tried.

    Beside it the curves of gain on all kinds, which section 4.2.2 compares. Raises as `figure1`.
    """
    source = one_source(points)
    with paper_style() as sns:
        figure, (left, right) = panels(8.6, 5.2, 2)
        chosen = _of_kind(points, "emb")
        _draw_limits(left, chosen)
        _draw_rankings(sns, left, chosen)
        for position, (variant, runs) in enumerate(_own(chosen).groupby("variant", sort=True)):
            name = f"L0, {variant!s}" if variant else "L0"
            _draw_own(left, runs, f"{name}, own threshold", position)
        _finish(left, "emb", "all scorers")
        gain = points[(points["label"] == "gain") & ~points["own_threshold"]]
        for position, (kind, rows) in enumerate(gain.groupby("kind", sort=True)):
            style = look("", position)
            line = rows.groupby("removed", as_index=False)["loss"].mean()
            right.plot(
                line["removed"], line["loss"], label=f"gain, {KINDS[str(kind)]}", **_of(style)
            )
        right.axhline(MAX_LOSS, color="#000000", linewidth=0.8, linestyle=(0, (1, 2)))
        right.set(xlabel="removed (%)", ylabel="F1 points lost", title="gain, on each kind of gate")
        legend_below(figure, left, right, columns=2)
        figure.suptitle(place_of(source), fontsize="medium")
    return figure


def sparsity_curves(points: pd.DataFrame, kind: str, *, published_figure: int) -> Figure:
    """F1 against the share of one kind removed; the share that the text prints is a mark apart.

    Rankings that are cut at several shares are lines; L0 at its own threshold, a run for each λ,
    is a series of its own. Studies that change L0's settings are left out.
    """
    chosen = _of_kind(points, kind)
    source = one_source(chosen)
    with paper_style() as sns:
        figure, (axes,) = panels(6.6, 5.8)
        _draw_limits(axes, chosen)
        _draw_rankings(sns, axes, chosen)
        if len(runs := _own(chosen)):
            _draw_own(axes, runs, "L0, one run per λ, own threshold")
        if source["data"] != NQ:  # the paper's share is of SQuAD 2.0
            _mark_published(axes, chosen["unpruned_f1"].mean() - MAX_LOSS, published_figure)
        _finish(axes, kind, place_of(source))
        if source["data"] == NQ:
            axes.set_ylabel(f1_of_dev(NQ))
        legend_below(figure, axes, columns=2)
    return figure


def curve_facts(points: pd.DataFrame, kind: str) -> str:
    """What both figure and table say of their numbers: questions, seeds, profile, provenance."""
    chosen = _of_kind(points, kind)
    source = one_source(chosen)
    draws = chosen[chosen["scorer"] == "random"]["seed"].nunique()
    seeds = chosen[chosen["scorer"] == "l0"]["seed"].nunique()
    questions = " or ".join(f"{n:,.0f}" for n in sorted(chosen["n"].unique()))
    parts = [
        f"F1 by the share of {KINDS[kind]} removed, {place_of(source)}",
        f"n = {questions} held-out questions",
        f"unpruned {chosen['unpruned_f1'].mean():.1f}",
    ]
    if draws:
        parts.append(f"random: mean of {counted(draws, 'draw')}" + " ± sd" * (draws > 1))
    if seeds:
        parts.append(f"L0: {'mean of ' * (seeds > 1)}{counted(seeds, 'seed')} of the gates")
    return "; ".join(parts) + "."


def describe_curves(points: pd.DataFrame, kind: str) -> str:
    """The caption: the facts, and how to read the lines."""
    l0 = _of_kind(points, kind).query("scorer == 'l0'")
    own, cuts = _own(l0), l0[~l0["own_threshold"].astype(bool)]
    reading = ""
    if len(own):
        reading += " Stars are L0 runs at their own threshold."
    if own["variant"].nunique() > 1:
        reading += " Other large markers are L0 with one setting changed."
    if len(cuts):
        reading += " Thin lines cut one L0 run's ranking elsewhere."
    return curve_facts(points, kind) + reading


def alt_curves(points: pd.DataFrame, kind: str) -> str:
    """What a reader who does not see the figure should know: each series at its far end."""
    chosen = _of_kind(points, kind)
    cuts = chosen[~chosen["own_threshold"]]
    ends = []
    for label, rows in cuts.groupby("label", sort=True):
        last = rows[rows["removed"] == rows["removed"].max()]
        ends.append(f"{label} {last['f1'].mean():.1f} at {last['removed'].iloc[0]:.0f}%")
    own = [
        f"{label} {rows['f1'].mean():.1f} at {rows['removed'].mean():.0f}%"
        for label, rows in _own(chosen).groupby("label", sort=True)
    ]
    text = f"F1 falls from {chosen['unpruned_f1'].mean():.1f} as {KINDS[kind]} are removed. "
    cut = f"Rankings at their last cut: {'; '.join(ends)}. " if ends else ""
    return text + cut + (f"L0 at its own threshold: {'; '.join(own)}." if own else "")


def _mark_published(axes: Axes, height: float, figure: int) -> None:
    """The share that the paper says can go at under 5 F1 lost, on our own line of that loss."""
    for number in of_figure(figure).values():
        axes.plot(
            [number.value],
            [height],
            color=PUBLISHED.color,
            marker=PUBLISHED.marker,
            linestyle="none",
            markersize=9,
            markerfacecolor="none",
            label=f"published: {number.value:g}% at < {MAX_LOSS:g} F1 lost ({number.source})",
        )


def _of_kind(points: pd.DataFrame, kind: str) -> pd.DataFrame:
    """One kind's rows, without the studies; on embeddings the studies are what is shown."""
    rows = points[points["kind"] == kind]
    return rows if kind == "emb" else rows[rows["variant"] == ""]


def _own(points: pd.DataFrame) -> pd.DataFrame:
    return points[points["own_threshold"].astype(bool)]


def _of(style: Any) -> dict[str, Any]:
    look = {"color": style.color, "marker": style.marker, "linestyle": style.linestyle}
    return {**look, "markeredgecolor": style.color}


def _draw_limits(axes: Axes, points: pd.DataFrame) -> None:
    if not len(points):
        raise RecordError("there is no point to draw")
    unpruned = points["unpruned_f1"].mean()
    axes.axhline(unpruned, color="#000000", linewidth=0.8, label="unpruned")
    axes.axhline(
        unpruned - MAX_LOSS,
        color="#000000",
        linewidth=0.8,
        linestyle=(0, (1, 2)),
        label=f"{MAX_LOSS:g} F1 below unpruned",
    )


def _draw_rankings(sns: Any, axes: Axes, points: pd.DataFrame) -> None:
    """Every ranking that is cut at several shares: mean over seeds, for random with ± sd."""
    cuts = points[~points["own_threshold"].astype(bool)]
    l0 = cuts[cuts["scorer"] == "l0"]
    for label, rows in cuts[cuts["scorer"] != "l0"].groupby("label", sort=True):
        scorer = str(rows["scorer"].iloc[0])
        style = LOOKS.get(str(label), look(scorer))
        sns.lineplot(
            rows,
            x="removed",
            y="f1",
            errorbar="sd" if scorer == "random" else None,
            label=str(label),
            ax=axes,
            legend=False,
            **_of(style),
        )
    for position, (_, rows) in enumerate(l0.groupby(["penalty", "label"], sort=True)):
        line = rows.groupby("removed", as_index=False)["f1"].mean()
        axes.plot(
            line["removed"],
            line["f1"],
            color=LOOKS["l0"].color,
            alpha=0.45,
            linewidth=0.9,
            linestyle=look("", position).linestyle,
            marker=".",
            label=f"{rows['label'].iloc[0]}, its ranking cut",
        )


def _draw_own(axes: Axes, runs: pd.DataFrame, label: str, position: int = 0) -> None:
    """L0 at its own threshold: a point for each λ, ± sd over the gates' seeds both ways."""
    by_penalty = runs.groupby("penalty")[["removed", "f1"]]
    mean, spread = by_penalty.mean(), by_penalty.std().fillna(0.0)
    style = OWN[position % len(OWN)]
    axes.errorbar(
        mean["removed"],
        mean["f1"],
        xerr=spread["removed"],
        yerr=spread["f1"],
        color=style.color,
        marker=style.marker,
        markersize=10 if position == 0 else 8,
        linewidth=1.8,
        capsize=2,
        zorder=3,
        label=label,
    )


def _finish(axes: Axes, kind: str, heading: str) -> None:
    axes.set(xlabel=f"{KINDS[kind]} removed (%)", ylabel="F1 on held-out questions (%)")
    axes.set_title(heading)
    axes.set_xlim(0, 100)
