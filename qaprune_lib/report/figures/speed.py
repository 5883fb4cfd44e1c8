"""The trade that Table 2 makes: F1 against decoding speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qaprune_lib.report.figures.style import (
    LOOKS,
    PUBLISHED,
    one_source,
    panels,
    paper_style,
    title,
)
from qaprune_lib.report.gather import rows_of
from qaprune_lib.report.published import TABLE_2
from qaprune_lib.report.tables import operating_points

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def table2_figure(models: pd.DataFrame) -> Figure:
    """F1 against speed-up: ours, and the paper's Table 2 in a panel of its own.

    Args:
        models: rows of `scored_models`, of one model.

    F1 is the median over seeds with its extremes, speed that of the one model that was timed, with
    the extremes of its rounds. Hollow markers are heads alone or activations alone.

    Raises:
        RecordError: the rows are of several profiles, data sets or models, or of none.
    """
    source = one_source(models)
    points = operating_points(models).dropna(subset=["speedup"])
    with paper_style():
        figure, (ours, theirs) = panels(8.2, 4.0, 2)
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
        ours.set(xlabel="speed-up (× unpruned)", ylabel="F1 on dev questions (%)")
        ours.set_title(title(source), fontsize="small")
        _draw_published(theirs)
        ours.legend(fontsize="small", loc="lower left")
        theirs.legend(fontsize="small", loc="lower left")
    return figure


def speed_facts(models: pd.DataFrame) -> str:
    """What both figure and table say of their numbers: questions, seeds, profile, provenance."""
    source, points = one_source(models), operating_points(models)
    runs = points[points["kinds"] != "none"]["runs"].max()
    seeds = "1 seed" if runs == 1 else f"{runs:.0f} seeds"
    return (
        f"{title(source)}: n = {points['n'].max():.0f} dev questions; F1 is the median over "
        f"{seeds}, with extremes; speed is of the first seed, with the extremes of the rounds."
    )


def describe_speed(models: pd.DataFrame) -> str:
    """The caption: the facts, and what stands on the right."""
    return (
        f"F1 against decoding speed, {speed_facts(models)} Right: the paper's Table 2 (large-qa, "
        "published), its speed-ups computed from its times."
    )


def alt_speed(models: pd.DataFrame) -> str:
    """Each of our points in words."""
    points = operating_points(models).dropna(subset=["speedup"])
    texts = [
        f"{row.then} {row.f1:.1f} at {row.speedup:.2f} times the speed" for row in rows_of(points)
    ]
    return "F1 against speed-up: " + "; ".join(texts)


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
    axes.set_title("the paper's Table 2, published", fontsize="small")
