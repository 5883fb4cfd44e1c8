"""Every claim's deciding effect beside the line that the claim draws: a forest plot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes

from study.claims import Finding, Judgement
from study.figures import style
from study.figures.style import BLACK, Drawing
from study.names import origin_of
from study.scoreboard import BADGES

MARKERS = {"holds": "o", "does not hold": "X", "not at our budget": "D", "undecided": "s"}
LABEL_WIDTH = 52
UNITS = {"times": "ratio", "ρ": "rank correlation"}
"""Labels of axes whose unit does not speak for itself."""


def effects(judgements: Sequence[Judgement]) -> Drawing | None:
    """The deciding effect of each tested claim with its 95% interval, a panel for each unit.

    A black bar is the claim's line, a grey band the range that a claim of equivalence allows, and
    the arrow points to the side where the claim holds. None if no claim has been tested.
    """
    tested = [(j, j.effect) for j in judgements if j.effect is not None]
    if not tested:
        return None
    tested.sort(key=lambda pair: (pair[1].unit, pair[0].number))
    panels = [list(group) for _, group in groupby(tested, key=lambda pair: pair[1].unit)]
    height = 1.0 + 0.45 * len(panels) + 0.4 * len(tested)
    rows: Any = {"nrows": len(panels), "height_ratios": [len(panel) + 0.6 for panel in panels]}
    places = ", ".join(sorted({origin_of(vars(j)) for j, _ in tested}, reverse=True))
    with style.canvas(places, 7.6, height, **rows) as (figure, axes):
        for axis, panel in zip(axes, panels, strict=True):
            _draw(axis, panel)
    caption = (
        "The deciding effect of each tested claim, with its 95% interval. Black bars are the lines "
        "that the claims draw, with an arrow to the side on which the claim holds; a grey band is "
        "the margin of a claim of equivalence. Hollow: one run alone, whose spread is not known. "
        "Dashed: generated questions. "
        f"{len(tested)} of {len(judgements)} claims; judged on: {places}; the table has the "
        "numbers of questions and seeds."
    )
    return Drawing(figure, caption)


def _draw(axes: Axes, panel: Sequence[tuple[Judgement, Finding]]) -> None:
    labels = []
    for place, (judgement, effect) in enumerate(panel):
        low = effect.value if effect.low is None else effect.low
        high = effect.value if effect.high is None else effect.high
        upper = effect.line if effect.upper is None else effect.upper
        ends = [place - 0.3, place + 0.3]
        axes.fill_betweenx(ends, effect.line, upper, color="#DDDDDD")
        for line in {effect.line, upper}:
            axes.plot([line, line], ends, color=BLACK, linewidth=2)
        badge = BADGES[judgement.verdict]
        dashes = "--" if judgement.provenance == "embedded" else "-"
        axes.plot([low, high], [place, place], dashes, color=badge.background, linewidth=2)
        look = style.Look(badge.background, MARKERS[judgement.verdict], "none")
        face = "white" if effect.low is None else badge.background
        style.plot(axes, [effect.value], [place], look, judgement.verdict, markerfacecolor=face)
        if effect.upper is None:
            sign, align = ("▶", "left") if effect.relation == "above" else ("◀", "right")
            axes.text(effect.line, place, sign, ha=align, va="center", fontsize="x-small")
        labels.append(fill(f"{judgement.number} {badge.symbol} {effect.label}", LABEL_WIDTH))
    axes.set_yticks(range(len(panel)), labels, fontsize="small")
    unit = panel[0][1].unit
    axes.set(ylim=(len(panel) - 0.4, -0.6), xlabel=UNITS.get(unit, unit))
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
