"""Every claim's deciding effect beside the line that the claim draws: a forest plot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from textwrap import fill
from typing import TYPE_CHECKING

from study.claims import VERDICTS, Finding, Judgement
from study.figures.style import BLACK, paper_style
from study.names import origin_of
from study.scoreboard import BADGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {"holds": "o", "does not hold": "X", "undecided": "s"}
LABEL_WIDTH = 52
UNITS = {"times": "ratio", "ρ": "rank correlation"}
"""Labels of axes whose unit does not speak for itself."""


def effects(judgements: Sequence[Judgement]) -> Figure:
    """The deciding effect of each tested claim with its 95% interval, a panel for each unit.

    A black bar is the claim's line, a grey band the range that a claim of equivalence allows, and
    the arrow points to the side where the claim holds.
    """
    from matplotlib.figure import Figure as NewFigure

    tested = [(j, j.effect) for j in judgements if j.effect is not None]
    tested.sort(key=lambda pair: (pair[1].unit, pair[0].number))
    panels = [list(group) for _, group in groupby(tested, key=lambda pair: pair[1].unit)]
    with paper_style():
        height = 1.0 + 0.45 * max(len(panels), 1) + 0.4 * len(tested)
        figure = NewFigure(figsize=(7.6, height), layout="constrained")
        if not panels:
            figure.text(0.5, 0.5, "no claim has been tested yet", ha="center", va="center")
            return figure
        rows = figure.subplots(
            len(panels), 1, squeeze=False, height_ratios=[len(panel) + 0.6 for panel in panels]
        )
        for (axes,), panel in zip(rows, panels, strict=True):
            _draw(axes, panel)
        _legend(figure)
    return figure


def describe_effects(judgements: Sequence[Judgement]) -> str:
    """The caption's part that depends on the records."""
    drawn = [j for j in judgements if j.effect is not None]
    places = sorted({origin_of(vars(j)) for j in drawn}, reverse=True)
    return f"{len(drawn)} of {len(judgements)} claims; judged on: {', '.join(places) or 'none'}."


def alt_effects(judgements: Sequence[Judgement]) -> str:
    """The figure in words."""
    drawn = [j for j in judgements if j.effect is not None]
    counts = [f"{sum(j.verdict == verdict for j in drawn)} {verdict}" for verdict in MARKERS]
    return (
        f"Deciding effects of {len(drawn)} claims with intervals, each beside the line that the "
        f"claim draws, in a panel for each unit: {', '.join(counts)}."
    )


def _draw(axes: Axes, panel: Sequence[tuple[Judgement, Finding]]) -> None:
    for place, (judgement, effect) in enumerate(panel):
        low = effect.value if effect.low is None else effect.low
        high = effect.value if effect.high is None else effect.high
        look = BADGES[judgement.verdict]
        upper = effect.line if effect.upper is None else effect.upper
        axes.fill_betweenx([place - 0.3, place + 0.3], effect.line, upper, color="#DDDDDD")
        for line in {effect.line, upper}:
            axes.plot([line, line], [place - 0.3, place + 0.3], color=BLACK, linewidth=2)
        axes.plot([low, high], [place, place], color=look.background, linewidth=2)
        marker = MARKERS[judgement.verdict]
        hollow = "white" if effect.low is None else look.background
        axes.plot(
            effect.value, place, marker, color=look.background, markersize=7, markerfacecolor=hollow
        )
        if effect.upper is None:
            sign = "▶" if effect.relation == "above" else "◀"
            align = "left" if effect.relation == "above" else "right"
            axes.text(effect.line, place, sign, ha=align, va="center", fontsize="x-small")
    labels = [
        fill(f"{judgement.number} {BADGES[judgement.verdict].symbol} {effect.label}", LABEL_WIDTH)
        for judgement, effect in panel
    ]
    axes.set_yticks(range(len(panel)), labels, fontsize="small")
    axes.set_ylim(len(panel) - 0.4, -0.6)
    unit = panel[0][1].unit
    axes.set_xlabel(UNITS.get(unit, unit))
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=BADGES[verdict].background, marker=MARKERS[verdict], label=verdict)
        for verdict in VERDICTS
        if verdict in MARKERS
    ]
    line = Line2D([], [], color=BLACK, marker="|", linestyle="none", label="the claim's line")
    figure.legend(handles=[*handles, line], loc="outside lower center", ncols=4, frameon=False)
