"""Every claim's deciding effect beside the line that the claim draws: a forest plot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from textwrap import fill
from typing import TYPE_CHECKING, Any

from study.claims import VERDICTS, Finding, Judgement
from study.figures.style import BLACK, Drawing, paper_style
from study.names import origin_of
from study.scoreboard import BADGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {"holds": "o", "does not hold": "X", "undecided": "s"}
LABEL_WIDTH = 52
UNITS = {"times": "ratio", "ρ": "rank correlation"}
"""Labels of axes whose unit does not speak for itself."""


def effects(judgements: Sequence[Judgement]) -> Drawing | None:
    """The deciding effect of each tested claim with its 95% interval, a panel for each unit.

    A black bar is the claim's line, a grey band the range that a claim of equivalence allows, and
    the arrow points to the side where the claim holds. None if no claim has been tested.
    """
    from matplotlib.figure import Figure as NewFigure

    tested = [(j, j.effect) for j in judgements if j.effect is not None]
    tested.sort(key=lambda pair: (pair[1].unit, pair[0].number))
    if not tested:
        return None
    panels = [list(group) for _, group in groupby(tested, key=lambda pair: pair[1].unit)]
    heights = [len(panel) + 0.6 for panel in panels]
    with paper_style():
        size = (7.6, 1.0 + 0.45 * len(panels) + 0.4 * len(tested))
        figure = NewFigure(figsize=size, layout="constrained")
        rows = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
        for axes, panel in zip(rows[:, 0], panels, strict=True):
            _draw(axes, panel)
        _legend(figure)
    places = sorted({origin_of(vars(judgement)) for judgement, _ in tested}, reverse=True)
    caption = (
        "The deciding effect of each tested claim, with its 95% interval. Black bars are the lines "
        "that the claims draw, with an arrow to the side on which the claim holds; a grey band is "
        "the margin of a claim of equivalence. Hollow: one run alone, whose spread is not known. "
        "Disc: holds; cross: does not hold; square: undecided. The table has the number of "
        f"questions and seeds of each. {len(tested)} of {len(judgements)} claims; judged on: "
        f"{', '.join(places)}."
    )
    return Drawing(figure, caption)


def _draw(axes: Axes, panel: Sequence[tuple[Judgement, Finding]]) -> None:
    for place, (judgement, effect) in enumerate(panel):
        low = effect.value if effect.low is None else effect.low
        high = effect.value if effect.high is None else effect.high
        upper = effect.line if effect.upper is None else effect.upper
        axes.fill_betweenx([place - 0.3, place + 0.3], effect.line, upper, color="#DDDDDD")
        for line in {effect.line, upper}:
            axes.plot([line, line], [place - 0.3, place + 0.3], color=BLACK, linewidth=2)
        color, marker = BADGES[judgement.verdict].background, MARKERS[judgement.verdict]
        axes.plot([low, high], [place, place], color=color, linewidth=2)
        hollow = "white" if effect.low is None else color
        style: Any = {"color": color, "markersize": 7, "markerfacecolor": hollow}
        axes.plot(effect.value, place, marker, label=judgement.verdict, **style)
        if effect.upper is None:
            sign, align = ("▶", "left") if effect.relation == "above" else ("◀", "right")
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
