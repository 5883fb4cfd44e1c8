"""Figures 1 and 2 of the paper, and section 4.2.2 on embeddings: F1 against the share removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from study.claims.curve import MAX_LOSS
from study.figures import style
from study.figures.style import BLACK, BLUE, GREEN, PUBLISHED, SKY, Drawing, Look
from study.frames import KINDS, SCORERS
from study.names import counted, f1_of_curves, place_of, split_of_curves
from study.paper.published_text import of_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NQ = "nq"

FIGURES = {"attn": 1, "ff": 2}
"""The paper's figure of each kind."""

OWN = (Look(BLUE, "*", "-"), Look(BLACK, "P", "-"), Look(SKY, "X", "-"), Look(GREEN, "h", "-"))
"""L0 at its own threshold: the sweep, then the settings that studies change."""


def sparsity_curves(points: pd.DataFrame, kind: str) -> Drawing:
    """F1 against the share removed of heads ("attn") or activations ("ff"), from `curve_points`.

    Rankings that are cut at several shares are lines; L0 at its own threshold, a run for each λ,
    is a series of its own; the share that the text prints is a mark apart. Studies that change
    L0's settings are left out.

    Raises:
        RecordError: the rows are of several profiles, data sets or models, or of none.
    """
    chosen = _of_kind(points, kind)
    source = style.one_source(chosen)
    with style.canvas(place_of(source), 6.6, 5.8, legend=2) as (figure, (axes,)):
        _draw_rankings(axes, chosen)
        if _own(chosen).any():
            _draw_own(axes, chosen[_own(chosen)], "L0, one run per λ, own threshold", OWN[0])
        if source["data"] != NQ:  # the paper's share is of SQuAD 2.0
            height = chosen["unpruned_f1"].mean() - MAX_LOSS
            for share in of_figure(FIGURES[kind]).values():
                label = f"published: {share.value:g}% at < {MAX_LOSS:g} F1 lost ({share.source})"
                hollow = {"markersize": 9, "markerfacecolor": "none"}
                style.plot(axes, [share.value], [height], PUBLISHED.points, label, **hollow)
    return Drawing(figure, _caption(chosen, kind))


def embeddings(points: pd.DataFrame) -> Drawing:
    """F1 against the share of embedding dimensions removed, L0 with every setting that was tried.

    Beside it the curves of gain on all kinds, which section 4.2.2 compares. Raises as
    `sparsity_curves`.
    """
    chosen = _of_kind(points, "emb")
    place = place_of(style.one_source(chosen))
    with style.canvas(place, 8.6, 5.2, 2, legend=2) as (figure, (left, right)):
        _draw_rankings(left, chosen)
        for position, (variant, runs) in enumerate(chosen[_own(chosen)].groupby("variant")):
            name = f"L0, {variant!s}" if variant else "L0"
            _draw_own(left, runs, f"{name}, own threshold", OWN[position % len(OWN)])
        left.set_title("all scorers")
        gain = points[(points["label"] == "gain") & ~_own(points)]
        for position, (kind, rows) in enumerate(gain.groupby("kind")):
            look, label = style.nth(position), f"gain, {KINDS[str(kind)]}"
            style.means(right, rows, "removed", "loss", look, label)
        right.axhline(MAX_LOSS, color=BLACK, linewidth=0.8, linestyle=(0, (1, 2)))
        right.set(xlabel="removed (%)", ylabel="F1 points lost", title="gain, on each kind of gate")
    return Drawing(figure, _caption(chosen, "emb") + " Right: gain on all kinds of gates.")


def curve_facts(points: pd.DataFrame, kind: str) -> str:
    """What both figure and table say of their numbers: questions, seeds, profile, provenance."""
    chosen = _of_kind(points, kind)
    source = style.one_source(chosen)
    draws, seeds = (chosen["seed"][chosen["scorer"] == name].nunique() for name in ("random", "l0"))
    questions = " or ".join(f"{n:,.0f}" for n in sorted(chosen["n"].unique()))
    parts = [
        f"{'Short-answer ' if source['data'] == NQ else ''}F1 by the share of {KINDS[kind]} "
        f"removed, {place_of(source)}",
        f"n = {questions} {split_of_curves(source['data'])} questions",
        f"unpruned {chosen['unpruned_f1'].mean():.1f}",
    ]
    if draws:
        parts.append(f"random: mean of {counted(draws, 'draw')}" + " ± sd" * (draws > 1))
    if seeds:
        parts.append(f"L0: {'mean of ' * (seeds > 1)}{counted(seeds, 'seed')} of the gates")
    return "; ".join(parts) + "."


def _caption(points: pd.DataFrame, kind: str) -> str:
    own, l0 = _own(points), points["scorer"] == "l0"
    several = points["variant"][own].nunique() > 1
    reading = {
        "Stars are L0 runs at their own threshold.": own.any(),
        "Other large markers are L0 with one setting changed.": several,
        "Thin lines cut one L0 run's ranking elsewhere.": (l0 & ~own).any(),
    }
    return " ".join([curve_facts(points, kind), *(text for text, true in reading.items() if true)])


def _of_kind(points: pd.DataFrame, kind: str) -> pd.DataFrame:
    """One kind's rows, without the studies; on embeddings the studies are what is shown."""
    rows = points[points["kind"] == kind]
    return rows if kind == "emb" else rows[rows["variant"] == ""]


def _own(points: pd.DataFrame) -> pd.Series[bool]:
    return points["own_threshold"].astype(bool)


def _draw_rankings(axes: Axes, points: pd.DataFrame) -> None:
    """The limits, and every ranking that is cut at several shares."""
    unpruned = points["unpruned_f1"].mean()
    for height, linestyle, limit in (
        (unpruned, "-", "unpruned"),
        (unpruned - MAX_LOSS, (0, (1, 2)), f"{MAX_LOSS:g} F1 below unpruned"),
    ):
        axes.axhline(height, color=BLACK, linewidth=0.8, linestyle=linestyle, label=limit)
    cuts = points[~_own(points)]
    l0 = cuts["scorer"] == "l0"
    for position, ((text, scorer), rows) in enumerate(cuts[~l0].groupby(["label", "scorer"])):
        label = str(text)
        names = label, SCORERS.get(str(scorer), str(scorer))
        look = next((style.LOOKS[n] for n in names if n in style.LOOKS), style.nth(position))
        style.means(axes, rows, "removed", "f1", look, label)
    for position, ((_, name), rows) in enumerate(cuts[l0].groupby(["penalty", "label"])):
        mean = rows.groupby("removed")["f1"].mean()
        look = Look(BLUE, ".", style.nth(position).linestyle)
        thin: Any = {"alpha": 0.45, "linewidth": 0.9}
        style.plot(axes, mean.index, mean, look, f"{name}, its ranking cut", **thin)
    f1, kind = f1_of_curves(points["data"].iloc[0]), KINDS[points["kind"].iloc[0]]
    axes.set(xlabel=f"{kind} removed (%)", ylabel=f1, xlim=(0, 100))


def _draw_own(axes: Axes, runs: pd.DataFrame, label: str, look: Look) -> None:
    """L0 at its own threshold: a point for each λ, ± sd over the gates' seeds both ways."""
    by_penalty = runs.groupby("penalty")[["removed", "f1"]]
    mean, spread = by_penalty.mean(), by_penalty.std().fillna(0.0)
    more: Any = {**look._asdict(), "linewidth": 1.8, "capsize": 2, "zorder": 3, "label": label}
    more |= {"markersize": 10 if look == OWN[0] else 8, "xerr": spread["removed"]}
    axes.errorbar(mean["removed"], mean["f1"], yerr=spread["f1"], **more)
