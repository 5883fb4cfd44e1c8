"""The trade that Table 2 makes: F1 against decoding speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from study.figures import style
from study.figures.style import LOOKS, PUBLISHED, Drawing, Look
from study.names import counted, place_of
from study.paper.published import TABLE_2
from study.tables import operating_points

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def table2_figure(models: pd.DataFrame) -> Drawing:
    """F1 against speed-up: ours, and the paper's Table 2 in a panel of its own.

    Args:
        models: rows of `scored_models`, of one model.

    F1 is the median over seeds with its extremes, speed that of the one model that was timed, with
    the extremes of its rounds. Hollow markers are heads alone or activations alone. A range far
    beyond all medians ends in an arrow at the edge, so that one disturbed round hides no point.

    Raises:
        RecordError: the rows are of several profiles, data sets or models, or of none.
    """
    place = place_of(style.one_source(models))
    points = operating_points(models).dropna(subset=["speedup"])
    with style.canvas(place, 8.2, 4.6, 2) as (figure, (ours, theirs)):
        edges = _edges(points)
        one_kind = points["kinds"].map({"attn": ", one kind only", "ff": ", one kind only"})
        for (then, alone), rows in points.groupby(["then", one_kind.fillna("")]):
            look = LOOKS[str(then)].points if alone else LOOKS[str(then)]
            _draw_ours(ours, rows, edges, look, f"{then}{alone}")
        ours.set(xlabel="speed-up (× unpruned)", ylabel="F1 on dev questions (%)", xlim=edges)
        ours.set_title("ours")
        _draw_published(theirs)
    caption = (
        f"F1 against decoding speed, {score_facts(models)} {time_facts(models)} A range that "
        "leaves the panel ends in an arrow. Right: the paper's Table 2 (large-qa, published), its "
        "speed-ups computed from its times."
    )
    return Drawing(figure, caption)


def score_facts(models: pd.DataFrame) -> str:
    """What figure and table say of F1: questions, seeds, profile, provenance."""
    source, points = style.one_source(models), operating_points(models)
    runs = points[points["kinds"] != "none"]["runs"].max()
    of = "is the median over" if runs > 1 else "of"
    extremes = ", with extremes" if runs > 1 else ""
    return (
        f"{place_of(source)}: n = {points['n'].max():,.0f} dev questions; "
        f"F1 {of} {counted(runs, 'seed')} of the gates{extremes}."
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


def _draw_ours(
    axes: Axes, points: pd.DataFrame, edges: tuple[float, float], look: Look, label: str
) -> None:
    """Points with their ranges, and arrows where a range goes on beyond the edge of the panel."""
    ranges: Any = {
        f"{axis}err": [points[name] - points[f"{name}_low"], points[f"{name}_high"] - points[name]]
        for axis, name in (("x", "speedup"), ("y", "f1"))
    }
    face = "none" if look == look.points else look.color
    more: Any = {**look._asdict(), **ranges, "markerfacecolor": face, "capsize": 2}
    axes.errorbar(points["speedup"], points["f1"], label=label, **more)
    inside = 0.02 * (edges[1] - edges[0])
    for marker, place, cut in (
        ("<", edges[0] + inside, points["speedup_low"] < edges[0]),
        (">", edges[1] - inside, points["speedup_high"] > edges[1]),
    ):
        for height in points["f1"][cut]:
            axes.plot(place, height, marker=marker, color=look.color, label="_cut")


def _edges(points: pd.DataFrame) -> tuple[float, float]:
    """Left and right end of the speed axis: all medians, and ranges that are not far beyond."""
    low, high = points["speedup"].min(), points["speedup"].max()
    least = max(points["speedup_low"].min(), low / 1.5)
    most = min(points["speedup_high"].max(), 1.5 * high)
    margin = 0.05 * max(most - least, 0.1)
    return least - margin, most + margin


def _draw_published(axes: Axes) -> None:
    unpruned = TABLE_2.row("no pruning").seconds
    for name, retrained, marker in (("retrained", True, "o"), ("not retrained", False, "s")):
        rows = [row for row in TABLE_2.rows if row.retrained == retrained]
        speed, f1 = [unpruned / row.seconds for row in rows], [row.f1 for row in rows]
        look = PUBLISHED.points._replace(marker=marker)
        style.plot(axes, speed, f1, look, f"published: {name}", markerfacecolor="none")
    axes.set(xlabel="speed-up (× unpruned)", ylabel="F1 on SQuAD 2.0 dev (%)")
    axes.set_title("the paper's Table 2, published")
