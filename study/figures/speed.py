"""The trade that Table 2 makes: F1 lost against decoding speed, the paper's points and ours."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from study.figures import style
from study.figures.style import LOOKS, PUBLISHED, Drawing
from study.names import counted, place_of
from study.paper.published import TABLE_2
from study.tables import operating_points


def table2_figure(models: pd.DataFrame) -> Drawing:
    """F1 lost against speed-up, each over its own unpruned model: ours, and the paper's Table 2.

    From `scored_models`: F1 is the median over seeds with its extremes, speed that of the one model
    that was timed, with the extremes of its rounds. Hollow markers of ours are heads alone or
    activations alone. The panel shows all medians; a range may leave it, so that one disturbed
    round hides no point.
    """
    place = place_of(style.one_source(models))
    points = operating_points(models)
    whole = points[points["kinds"].eq("none")].iloc[0]
    points = points.dropna(subset=["speedup"])
    one_kind = points["kinds"].map({"attn": ", one kind only", "ff": ", one kind only"})
    with style.canvas(place, 6.8, 5.4, legend=2) as (figure, (axes,)):
        for (then, alone), rows in points.groupby(["then", one_kind.fillna("")]):
            look = LOOKS[str(then)].points if alone else LOOKS[str(then)]
            ranges: Any = {
                f"{axis}err": [rows[name] - rows[f"{name}_low"], rows[f"{name}_high"] - rows[name]]
                for axis, name in (("x", "speedup"), ("y", "f1"))
            }
            ranges["yerr"].reverse()  # what is lost is measured downwards
            face = "none" if alone else look.color
            more: Any = {**look._asdict(), **ranges, "markerfacecolor": face, "capsize": 2}
            lost = whole["f1"] - rows["f1"]
            axes.errorbar(rows["speedup"], lost, label=f"{then}{alone}", **more)
        fastest = max(_draw_published(axes), points["speedup"].max())
        style.floor(axes, [whole["f1"] - whole["floor"]], lost=True)
        axes.set(xlabel="speed-up (× unpruned)", ylabel="F1 points lost on dev questions")
        axes.set_xlim(0.9 * min(1, points["speedup"].min()), 1.05 * fastest)
    caption = (
        f"F1 lost against decoding speed, {score_facts(models)} {time_facts(models)} Black: the "
        "paper's Table 2 (large-qa, published), its speed-ups computed from its times."
    )
    return Drawing(figure, caption)


def compress_figure(rows: pd.DataFrame) -> Drawing:
    """F1 lost against speed-up of what `compress` made of one model; from `compressions`."""
    one = rows.iloc[0]
    with style.canvas(place_of(one), 6.8, 3.6, legend=2) as (figure, (axes,)):
        for place, (kept, part) in enumerate(
            rows.groupby(rows["what"].str.startswith("distilled"))
        ):
            look = style.nth(place).points
            ranges: Any = [
                part["speedup"] - part["speedup_low"], part["speedup_high"] - part["speedup"]
            ]  # fmt: skip
            lost = part["unpruned_f1"] - part["f1"]
            label = "pruned, mended and distilled" if kept else "pruned and mended, not trained"
            more: Any = {**look._asdict(), "capsize": 2}
            axes.errorbar(part["speedup"], lost, xerr=ranges, label=label, **more)
            for _, row in part.drop_duplicates(["asked", "budget"]).iterrows():
                at = (row["speedup"], row["unpruned_f1"] - row["f1"])
                near: Any = {"textcoords": "offset points", "xytext": (5, 5), "size": "small"}
                axes.annotate(f"{row['asked']}, {row['budget']}", at, **near)
        axes.axhline(0, color=style.BLACK, linewidth=0.8)
        axes.set(xlabel="speed-up (× unpruned)", ylabel="F1 points lost on dev questions")
        axes.margins(0.12)  # words beside the outermost points
    caption = (
        f"What one call makes, {place_of(one)}: F1 lost on {one['n']:,.0f} dev questions, of "
        f"{one['unpruned_f1']:.1f}, against speed-up, median and range over rounds "
        f"({'; '.join(sorted(set(rows['timed_on'])))}); a point is one run, beside it "
        "what was asked for, and in which time; points of one colour without words are other seeds."
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


def _draw_published(axes: Axes) -> float:
    """The paper's points; returns the largest speed-up."""
    whole = TABLE_2.rows[0]
    for name, retrained, marker in (("retrained", True, "o"), ("not retrained", False, "s")):
        rows = [row for row in TABLE_2.rows if row.retrained == retrained]
        speed, lost = [whole.seconds / r.seconds for r in rows], [whole.f1 - r.f1 for r in rows]
        look = PUBLISHED.points._replace(marker=marker)
        style.plot(axes, speed, lost, look, f"published: {name}", markerfacecolor="none")
    return float(max(whole.seconds / row.seconds for row in TABLE_2.rows))
