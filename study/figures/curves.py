"""Figures 1 and 2 of the paper, and section 4.2.2 on embeddings: F1 lost by the share removed."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from study.claims.curve import MAX_LOSS
from study.curve_tables import drawn_curves
from study.figures import style
from study.figures.style import BLACK, BLUE, GREEN, PUBLISHED, SKY, Drawing, Look
from study.frames import KINDS, SCORERS
from study.names import counted, place_of, split_of_curves
from study.paper.published import of_figure

NQ = "nq"

FIGURES = {"attn": 1, "ff": 2}
"""The paper's figure of each kind."""

OWN = (Look(BLUE, "*", "-"), Look(BLACK, "P", "-"), Look(SKY, "X", "-"), Look(GREEN, "h", "-"))
"""L0 at its own threshold: the sweep, then the settings that studies change."""


def sparsity_curves(points: pd.DataFrame, kind: str) -> Drawing:
    """F1 lost against the share removed, from `curve_points`: one panel, from (0, 0), all scorers.

    L0 is a run for each λ at its own threshold; other scorers are rankings that are cut. Bands are
    ± sd over seeds. On heads ("attn") and activations ("ff") settings that studies change are left
    out and the share that the text prints is a mark apart; on embedding dimensions ("emb") every
    setting is drawn, and beside it gain on all kinds.
    """
    chosen, is_emb = _of_kind(points, kind), kind == "emb"
    source = style.one_source(chosen)
    size = (8.6, 5.2, 2) if is_emb else (6.6, 5.6, 1)
    with style.canvas(place_of(source), *size, legend=2) as (figure, (axes, *others)):
        _draw(axes, chosen)
        if source["data"] != NQ and not is_emb:  # the paper's share is of SQuAD 2.0
            for share in of_figure(FIGURES[kind]).values():
                label = f"published: {share.value:g}% at < {MAX_LOSS:g} F1 lost ({share.source})"
                hollow = {"markersize": 9, "markerfacecolor": "none"}
                style.plot(axes, [share.value], [MAX_LOSS], PUBLISHED.points, label, **hollow)
        gain = points[points["label"] == "gain"]
        for beside in others:
            for position, (name, rows) in enumerate(gain.groupby("kind")):
                curve, look = drawn_curves(rows), style.nth(position)
                style.plot(
                    beside, curve["removed"], curve["loss"], look, f"gain, {KINDS[str(name)]}"
                )
            beside.set(xlabel="removed (%)", title="gain, on each kind of gate")
            axes.set_title("all scorers")
    beside_it = " Right: gain on all kinds of gates." if is_emb else ""
    return Drawing(figure, curve_facts(points, kind) + beside_it)


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
        f"unpruned {chosen['unpruned_f1'].mean():.1f}, answering nothing "
        f"{chosen['floor'].mean():.1f}",
    ]
    if draws:
        parts.append(f"random: mean of {counted(draws, 'draw')}" + " ± sd" * (draws > 1))
    if seeds:
        mean = "mean ± sd of " if seeds > 1 else ""
        parts.append(
            f"L0: runs at their own threshold, {mean}{counted(seeds, 'seed')} of the gates"
        )
    return "; ".join(parts) + "."


def _of_kind(points: pd.DataFrame, kind: str) -> pd.DataFrame:
    """One kind's rows, without the studies; on embeddings the studies are what is shown."""
    rows = points[points["kind"] == kind]
    return rows if kind == "emb" else rows[rows["variant"] == ""]


def _draw(axes: Axes, points: pd.DataFrame) -> None:
    own = 0
    for position, ((name, scorer), curve) in enumerate(
        drawn_curves(points).groupby(["name", "scorer"])
    ):
        names = str(name), SCORERS.get(str(scorer), str(scorer))
        look = next((style.LOOKS[n] for n in names if n in style.LOOKS), style.nth(position))
        if scorer == "l0":
            look, own = OWN[own % len(OWN)], own + 1
        x, lost, spread = ([0, *curve[column]] for column in ("removed", "loss", "sd"))
        style.banded(axes, x, lost, spread, look, names[0])
    limit = f"{MAX_LOSS:g} F1 lost"
    axes.axhline(MAX_LOSS, color=BLACK, linewidth=0.8, linestyle=(0, (1, 2)), label=limit)
    style.floor(axes, [(points["unpruned_f1"] - points["floor"]).mean()], lost=True)
    one = points.iloc[0]
    what = f"{'short-answer ' if one['data'] == NQ else ''}F1 points lost"
    on = f"on {split_of_curves(one['data'])} questions"
    axes.set(xlabel=f"{KINDS[one['kind']]} removed (%)", ylabel=f"{what} {on}", xlim=(0, 100))
    axes.set_ylim(bottom=min(0.0, axes.dataLim.y0))
