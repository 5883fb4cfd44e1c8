"""Figure 4 of the paper: short-answer F1 on Natural Questions against the number of parameters."""

from __future__ import annotations

import pandas as pd

from study.figures import style
from study.figures.style import LOOKS, PUBLISHED, Drawing
from study.frames import own_sweep, rows_of
from study.linked import TAUGHT_BY
from study.names import data_of, f1_of_dev, model_of, origin_of, place_of
from study.paper.published import TABLE_1, TABLE_4, TABLE_5, TEXT
from study.paper_tables import published_sizes
from study.tables import gates_origin, operating_points

MARKERS = {"": "o", "pr(x-ent) + dist": "s", "pr(dist) + dist": "^"}
"""By series: whole models; pruned by gates that cross-entropy or distillation drove, distilled."""

FILL = {"": "full", "gates": "none", "gates and weights": "left"}
"""How markers are filled, by what comes from other questions."""

SIZE = "parameters (millions)"


def figure4_published() -> Drawing:
    """The published points that have a printed F1: Tables 4 and 5, DistilBERT and TinyBERT."""
    text = {"DistilBert": TEXT["distilbert_nq_short_f1"], "TinyBert": TEXT["tinybert_nq_short_f1"]}
    others = [(name, number.value, TABLE_1.row(name).parameters) for name, number in text.items()]
    small = pd.DataFrame(others, columns=["model", "short_f1", "parameters"])
    table4, table5 = published_sizes(TABLE_4), published_sizes(TABLE_5)
    base = table5["model"] == "RoBERTa-base"
    series = {
        ("Table 4: large pr(x-ent), cross-entropy", "s"): table4,
        ("Table 5: large pr(x-ent), distillation", "^"): table5[~base],
        ("Table 5: base + dist", "D"): table5[base],
        (f"DistilBert ({text['DistilBert'].source})", "x"): small[:1],
        (f"TinyBert ({text['TinyBert'].source})", "+"): small[1:],
    }
    with style.canvas("published", 6.2, 5.0, legend=1) as (figure, (axes,)):
        for (label, marker), rows in series.items():
            look, hollow = PUBLISHED._replace(marker=marker), {"markerfacecolor": "none"}
            style.plot(axes, rows["parameters"], rows["short_f1"], look, label, **hollow)
        style.floor(axes, [0.0])  # F1 on Natural Questions counts answers
        axes.set(xlabel=SIZE, ylabel="short-answer F1 on NQ dev (%)")
    caption = (
        "Short-answer F1 on NQ dev against parameters: the points that the paper prints "
        "(published; it prints neither n nor seeds for these rows). Figure 4 itself prints no "
        "numbers. Parameters of Tables 4 and 5 are computed from the shares removed and the "
        "models' dimensions."
    )
    return Drawing(figure, caption)


def figure4(models: pd.DataFrame) -> Drawing:
    """Ours: the `figure4_points` of one profile's `scored_models` on one set of questions."""
    points, one = figure4_points(models), models.iloc[0]
    names = list(dict.fromkeys(points["model"]))
    place = f"{data_of(one)}, {origin_of(one)}"
    with style.canvas(place, 6.2, 5.2, legend=1) as (figure, (axes,)):
        for (name, series), rows in points.groupby(["model", "series"], sort=False):
            look = style.nth(names.index(name))._replace(marker=MARKERS[str(series)])
            label = f"{name}, {series}" if series else str(name)
            style.plot(axes, rows["parameters"], rows["f1"], look, label, linewidth=0.8)
        style.floor(axes, models["floor"].unique())
        axes.set(xlabel=SIZE, ylabel=f1_of_dev(str(one["data"])))
    caption = (
        f"The paper's Figure 4 with our models, {place}: {style.basis(models)}. pr(x-ent): gates "
        "driven by cross-entropy; pr(dist): by distillation; + dist: distilled after that."
    )
    return Drawing(figure, caption)


def figure4_points(models: pd.DataFrame) -> pd.DataFrame:
    """The points of Figure 4, larger models first: model, series, parameters (millions) and f1.

    Fine-tuned models and those that a larger one taught; models pruned at multiples of λ by gates
    of the same questions, then distilled. Medians over seeds.
    """
    whole, distilled = models["kinds"] == "none", models["then"] == "distillation"
    taught = models["then"].eq("fine-tuned") | distilled & models["model"].str.contains(TAUGHT_BY)
    pruned = (models["kinds"] == "both") & own_sweep(models)
    pruned &= models["weights_from"].isin(["", models["data"].iloc[0]])
    chosen = models[whole & taught | pruned & distilled].copy()
    by_distillation = chosen["gate_objective"].eq("distillation")
    chosen["series"] = by_distillation.map({True: "pr(dist) + dist", False: "pr(x-ent) + dist"})
    chosen.loc[chosen["kinds"] == "none", "series"] = ""
    chosen["parameters"] /= 1e6
    chosen["size"] = chosen.groupby("model")["parameters"].transform("max")
    chosen["model"] = [model_of(row) for _, row in chosen.iterrows()]
    key = ["model", "series", "penalty_attn", "penalty_ff"]
    medians = chosen.groupby(key, dropna=False, sort=False)[["size", "parameters", "f1"]].median()
    order = ["size", "model", "series", "parameters"]
    ordered = medians.reset_index().sort_values(order, ascending=[False, True, True, True])
    return ordered[["model", "series", "parameters", "f1"]].reset_index(drop=True)


def arms(models: pd.DataFrame) -> Drawing:
    """All arms of one model on Natural Questions, from `scored_models`: short-answer F1 by size."""
    source = style.one_source(models)
    place, points = place_of(source), operating_points(models)
    points["origin"] = [gates_origin(row) for row in rows_of(points)]
    with style.canvas(place, 6.2, 6.2, legend=1) as (figure, (axes,)):
        for (then, origin), rows in points.groupby(["then", "origin"]):
            label = f"{then}, {origin}" if origin else str(then)
            look, fill = LOOKS[str(then)].points, FILL[str(origin).partition(" of ")[0]]
            sizes = rows["parameters"] / 1e6
            style.plot(axes, sizes, rows["short_f1"], look, label, fillstyle=fill)
        style.floor(axes, models["floor"].unique())
        axes.set(xlabel=SIZE, ylabel=f1_of_dev(source["data"]))
    caption = (
        f"All arms of one model: short-answer F1 against parameters, {place}: "
        f"{style.basis(models)}. Hollow: gates of SQuAD 2.0; half full: weights of SQuAD 2.0 too, "
        "trained on."
    )
    return Drawing(figure, caption)
