"""Figure 4 of the paper: short-answer F1 on Natural Questions against the number of parameters."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Literal

from study.figures.style import (
    LOOKS,
    PUBLISHED,
    SEQUENCE,
    legend_below,
    look,
    one_source,
    panels,
    paper_style,
)
from study.frames import rows_of
from study.linked import TAUGHT_BY
from study.names import data_of, f1_of_dev, model_of, origin_of, place_of
from study.paper.published import TABLE_1, TABLE_4, TABLE_5
from study.paper.published_text import TEXT
from study.paper_tables import published_sizes
from study.tables import gates_origin, operating_points

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure4_published() -> Figure:
    """The published points that have a printed F1: Tables 4 and 5, DistilBERT and TinyBERT.

    Figure 4 itself prints no number. Parameters of Tables 4 and 5 are computed from their shares.
    """
    with paper_style():
        figure, (axes,) = panels(6.2, 4.4)
        rows = published_sizes(TABLE_5)
        distilled = rows[rows["model"] != "RoBERTa-base"]
        _plot(axes, published_sizes(TABLE_4), "Table 4: large pr(x-ent), cross-entropy", "s")
        _plot(axes, distilled, "Table 5: large pr(x-ent), distillation", "^")
        _plot(axes, rows[rows["model"] == "RoBERTa-base"], "Table 5: base + dist", "D")
        for row, name, marker in (
            (TABLE_1.row("DistilBert"), "distilbert_nq_short_f1", "x"),
            (TABLE_1.row("TinyBert"), "tinybert_nq_short_f1", "+"),
        ):
            number = TEXT[name]
            label = f"{row.model} ({number.source})"
            axes.plot([row.parameters], [number.value], marker, color=PUBLISHED.color, label=label)
        axes.set(xlabel="parameters (millions)", ylabel="short-answer F1 on NQ dev (%)")
        axes.set_title("published; parameters of Tables 4 and 5 computed from their shares")
        axes.legend(fontsize="small", loc="lower right")
    return figure


def figure4(models: pd.DataFrame) -> Figure:
    """Ours: F1 against parameters of all models of one profile and data set, as in the paper.

    Args:
        models: rows of `scored_models`; those of `figure4_points` are drawn.
    """
    points = figure4_points(models)
    names = list(dict.fromkeys(points["model"]))
    with paper_style():
        figure, (axes,) = panels(6.2, 5.2)
        for (name, series), rows in points.groupby(["model", "series"], sort=False):
            style = SEQUENCE[names.index(name) % len(SEQUENCE)]
            axes.plot(
                rows["parameters"],
                rows["f1"],
                color=style.color,
                marker=_MARKERS[str(series)],
                linestyle=style.linestyle,
                linewidth=0.8,
                label=_label(str(name), str(series)),
            )
        one = models.iloc[0]
        axes.set(xlabel="parameters (millions)", ylabel=f1_of_dev(str(one["data"])))
        axes.set_title(f"{data_of(one)}, {origin_of(one)}")
        legend_below(figure, axes, columns=1)
    return figure


_MARKERS = {"": "o", "pr(x-ent) + dist": "s", "pr(dist) + dist": "^"}
"""By series: whole models; pruned by gates that cross-entropy or distillation drove, distilled."""


def figure4_points(models: pd.DataFrame) -> pd.DataFrame:
    """The points of Figure 4, larger models first: model, series, parameters (millions) and f1.

    Fine-tuned models and those that a larger one taught; models pruned at multiples of λ by gates
    of the same questions, then distilled. Medians over seeds.
    """
    both = (models["kinds"] == "both") & models["choice"].eq("scores") & models["fraction"].isna()
    both &= models["scorer"].eq("l0") & models["gates_from"].eq(models["data"])
    both &= models["weights_from"].isin(["", models["data"].iloc[0]])
    taught = models["model"].str.contains(TAUGHT_BY)
    whole = (models["kinds"] == "none") & (
        models["then"].eq("fine-tuned") | models["then"].eq("distillation") & taught
    )
    chosen = models[whole | both & models["then"].eq("distillation")].copy()
    by_distillation = chosen["gate_objective"].eq("distillation")
    chosen["series"] = by_distillation.map({True: "pr(dist) + dist", False: "pr(x-ent) + dist"})
    chosen.loc[chosen["kinds"] == "none", "series"] = ""
    chosen["parameters"] /= 1e6
    size = chosen.groupby("model")["parameters"].transform("max")
    chosen["model"] = [model_of(row) for _, row in chosen.iterrows()]
    key = ["model", "series", "penalty_attn", "penalty_ff"]
    points = chosen.assign(size=size).groupby(key, dropna=False, sort=False)
    order = ["size", "model", "series", "parameters"]
    medians = points[["size", "parameters", "f1"]].median().reset_index()
    medians = medians.sort_values(order, ascending=[False, True, True, True], ignore_index=True)
    return medians[["model", "series", "parameters", "f1"]]


def _label(name: str, series: str) -> str:
    return f"{name}, {series}" if series else name


def alt_figure4(models: pd.DataFrame) -> str:
    """Each of our points in words."""
    return "F1 against parameters: " + "; ".join(
        f"{_label(row.model, row.series)} {row.f1:.1f} with {row.parameters:.1f} million"
        for row in rows_of(figure4_points(models))
    )


def arms(models: pd.DataFrame) -> Figure:
    """All arms of one model on Natural Questions: short-answer F1 against parameters.

    Args:
        models: rows of `scored_models`, of one model.

    Raises:
        RecordError: the rows are of several profiles, data sets or models, or of none.
    """
    source = one_source(models)
    points = operating_points(models)
    with paper_style():
        figure, (axes,) = panels(6.2, 6.2)
        for (then, origin), rows in points.assign(
            origin=[gates_origin(row) for row in rows_of(points)]
        ).groupby(["then", "origin"], sort=True):
            style = look(str(then)) if str(then) in LOOKS else look("", 0)
            axes.plot(
                rows["parameters"] / 1e6,
                rows["short_f1"],
                color=style.color,
                marker=style.marker,
                fillstyle=_FILL[str(origin).partition(" of ")[0]],
                linestyle="none",
                label=f"{then}, {origin}" if origin else str(then),
            )
        axes.set(xlabel="parameters (millions)", ylabel=f1_of_dev(source["data"]))
        axes.set_title(fill(place_of(source), 60))
        legend_below(figure, axes, columns=1)
    return figure


_FILL: dict[str, Literal["full", "none", "left"]] = {
    "": "full",
    "gates": "none",
    "gates and weights": "left",
}
"""How markers are filled, by what comes from other questions."""


def alt_figure4_published() -> str:
    """Each published point in words."""
    texts = [
        f"{row.model} {row.short_f1:g} with {row.parameters:.0f} million parameters"
        for table in (TABLE_4, TABLE_5)
        for row in rows_of(published_sizes(table))
    ]
    return "Short-answer F1 against parameters: " + "; ".join(texts)


def _plot(axes: Axes, rows: pd.DataFrame, label: str, marker: str) -> None:
    axes.plot(
        rows["parameters"],
        rows["short_f1"],
        color=PUBLISHED.color,
        marker=marker,
        markerfacecolor="none",
        linestyle=PUBLISHED.linestyle,
        linewidth=0.8,
        label=label,
    )
