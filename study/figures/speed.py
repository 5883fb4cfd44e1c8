"""The trade that Table 2 makes: F1 against decoding speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.figures.style import (
    LOOKS,
    PUBLISHED,
    legend_below,
    one_source,
    panels,
    paper_style,
)
from study.frames import rows_of
from study.names import counted, place_of
from study.paper.published import TABLE_2
from study.tables import operating_points

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def table2_figure(models: pd.DataFrame) -> Figure:
    """F1 against speed-up: ours, and the paper's Table 2 in a panel of its own.

    Args:
        models: rows of `scored_models`, of one model.

    F1 is the median over seeds with its extremes, speed that of the one model that was timed, with
    the extremes of its rounds. Hollow markers are heads alone or activations alone. A range far
    beyond all medians ends in an arrow at the edge, so that one disturbed round hides no point.

    Raises:
        RecordError: the rows are of several profiles, data sets or models, or of none.
    """
    source = one_source(models)
    points = operating_points(models).dropna(subset=["speedup"])
    with paper_style():
        figure, (ours, theirs) = panels(8.2, 4.6, 2)
        edges = _edges(points)
        for then, rows in points.groupby("then", sort=True):
            both = rows["kinds"].isin(["both", "none"])
            style = LOOKS[str(then)]
            for part, filled in ((rows[both], True), (rows[~both], False)):
                if not len(part):
                    continue
                low, high = part["f1"] - part["f1_low"], part["f1_high"] - part["f1"]
                slower = part["speedup"] - part["speedup_low"]
                faster = part["speedup_high"] - part["speedup"]
                ours.errorbar(
                    part["speedup"],
                    part["f1"],
                    xerr=[slower, faster],
                    yerr=[low, high],
                    color=style.color,
                    marker=style.marker,
                    linestyle=style.linestyle if filled else "none",
                    markerfacecolor=style.color if filled else "none",
                    capsize=2,
                    label=str(then) if filled else f"{then}, one kind only",
                )
                _mark_cut(ours, part, edges, style.color)
        ours.set(xlabel="speed-up (× unpruned)", ylabel="F1 on dev questions (%)", xlim=edges)
        ours.set_title("ours")
        _draw_published(theirs)
        legend_below(figure, ours, theirs, columns=3)
        figure.suptitle(place_of(source), fontsize="medium")
    return figure


def score_facts(models: pd.DataFrame) -> str:
    """What figure and table say of F1: questions, seeds, profile, provenance."""
    source, points = one_source(models), operating_points(models)
    runs = points[points["kinds"] != "none"]["runs"].max()
    spread = "is the median over" if runs > 1 else "of"
    extremes = ", with extremes" if runs > 1 else ""
    return (
        f"{place_of(source)}: n = {points['n'].max():,.0f} dev questions; "
        f"F1 {spread} {counted(runs, 'seed')} of the gates{extremes}."
    )


def time_facts(models: pd.DataFrame) -> str:
    """What figure and table say of speed."""
    if models["speedup"].isna().all():
        return "These models have not been timed yet."
    return (
        "Speed is of the first seed: median and extremes of the rounds of one measurement "
        f"({timed_on(models)})."
    )


def timed_on(models: pd.DataFrame) -> str:
    """Device, precision and questions of the measurements of speed; "" if there is none."""
    return "; ".join(sorted(set(models["timed_on"]) - {""}))


def describe_speed(models: pd.DataFrame) -> str:
    """The caption: the facts, and what stands on the right."""
    return (
        f"F1 against decoding speed, {score_facts(models)} {time_facts(models)} A range that "
        "leaves the panel ends in an arrow. Right: the paper's Table 2 (large-qa, published), its "
        "speed-ups computed from its times."
    )


def alt_speed(models: pd.DataFrame) -> str:
    """Each of our points in words."""
    points = operating_points(models).dropna(subset=["speedup"])
    texts = [
        f"{row.then} {row.f1:.1f} at {row.speedup:.2f} times the speed" for row in rows_of(points)
    ]
    return "F1 against speed-up: " + "; ".join(texts)


def _edges(points: pd.DataFrame) -> tuple[float, float]:
    """Left and right end of the speed axis: all medians, and ranges that are not far beyond."""
    low, high = points["speedup"].min(), points["speedup"].max()
    least = max(points["speedup_low"].min(), low / 1.5)
    most = min(points["speedup_high"].max(), 1.5 * high)
    margin = 0.05 * max(most - least, 0.1)
    return least - margin, most + margin


def _mark_cut(axes: Axes, points: pd.DataFrame, edges: tuple[float, float], color: str) -> None:
    """Arrows where the range of a point goes on beyond the edge of the panel."""
    inside = 0.02 * (edges[1] - edges[0])
    for marker, place, cut in (
        ("<", edges[0] + inside, points["speedup_low"] < edges[0]),
        (">", edges[1] - inside, points["speedup_high"] > edges[1]),
    ):
        for height in points["f1"][cut]:
            axes.plot(place, height, marker=marker, color=color, label="_cut")


def _draw_published(axes: Axes) -> None:
    unpruned = TABLE_2.row("no pruning").seconds
    series = {
        "published: retrained": [row for row in TABLE_2.rows if row.retrained],
        "published: not retrained": [row for row in TABLE_2.rows if not row.retrained],
    }
    markers = {"published: retrained": "o", "published: not retrained": "s"}
    for name, rows in series.items():
        axes.plot(
            [unpruned / row.seconds for row in rows],
            [row.f1 for row in rows],
            color=PUBLISHED.color,
            marker=markers[name],
            markerfacecolor="none",
            linestyle="none",
            label=name,
        )
    axes.set(xlabel="speed-up (× unpruned)", ylabel="F1 on SQuAD 2.0 dev (%)")
    axes.set_title("the paper's Table 2, published")
