"""Operating points to leaf through: what each keeps, how well it answers, how fast it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from ipywidgets import Widget
from matplotlib.figure import Figure

from study.figures.style import BLUE
from study.frames import KINDS, SERIES, by_l0, rows_of, scored_models
from study.interactive import picture, slider_pages
from study.linked import Runs
from study.markup import fill, render
from study.names import measured_first, number, place_of
from study.records.record import Record, hash_of
from study.tables import KINDS_PRUNED, THEN, point_name

_POINT = [
    *("provenance", "profile", "data", "finetune", "gates_from", "weights_from"),
    *("kinds", "multiple", "penalty_attn", "penalty_ff", "gate_objective"),
]


def named_points(records: Iterable[Record]) -> pd.DataFrame:
    """The models of each operating point: rows of `scored_models` with a column `name` in front.

    A point is pruned by L0 at its own threshold. Of gate seeds and of seeds of retraining the
    smallest stands for all. The unpruned model comes first, then heads alone, activations alone
    and both, by the share that they remove.
    """
    models = scored_models(records)
    chosen = models[by_l0(models) & models["variant"].eq("") | models["kinds"].eq("none")].copy()
    chosen = chosen.sort_values(["gate_seed", "retrain_seed"], kind="stable")
    first = chosen.groupby(_POINT, dropna=False)["point"].transform("first")
    chosen = chosen[chosen["point"] == first].drop_duplicates([*_POINT, "then"])
    chosen.insert(0, "name", [point_name(row) for row in rows_of(chosen)])
    by_kind = chosen["kinds"].map(list(KINDS_PRUNED).index)
    removed = chosen["attn_removed"] + chosen["ff_removed"]
    order = np.lexsort([chosen["then"].map(THEN.index), removed, by_kind])
    return chosen.iloc[order].reset_index(drop=True)


def leaf_through_points(records: Sequence[Record]) -> dict[str, Widget]:
    """For each fine-tuned model, a slider over its operating points.

    A page has F1, size, speed, and what each layer keeps. The keys are as in `place_of`. Models
    that a larger one taught from the start were never fine-tuned, and have no slider.
    """
    tuned = {(r.provenance, r.profile, r.id): r for r in Runs(records).of("finetune")}
    sliders = {}
    points = named_points(records).sort_values("data", key=lambda d: d.eq("nq"), kind="stable")
    points = measured_first(points)
    # those whose weights come from other questions stand beside the fine-tuned model of these
    own = points["finetune"].where(points["weights_from"] == points["data"])
    first = own.groupby([points[name] for name in SERIES]).transform("first")
    points["finetune"] = own.fillna(first)
    for _, rows in points.groupby([*SERIES, "finetune"], sort=False):
        one = rows.iloc[0]
        record = tuned.get((one["provenance"], one["profile"], one["finetune"]))
        if record is not None and rows["kinds"].ne("none").any():
            shape = record.metrics["shape"]
            pages = {
                str(name): _page(str(name), of_point, rows, shape)
                for name, of_point in rows.groupby("name", sort=False)
            }
            slider = slider_pages(pages, description="operating point")
            sliders[place_of(one), str(one["finetune"])] = slider
    return _distinct(sliders)


def draw_layers(kept: Mapping[str, list[int] | None], shape: Mapping[str, int]) -> Figure:
    """Percentage of heads and of activations kept, layer by layer; None: all."""
    figure = Figure(figsize=(7.5, 2.4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("attn", "ff"), strict=True):
        size = shape["n_heads" if kind == "attn" else "d_intermediate"]
        layers = np.arange(1, shape["n_layers"] + 1)
        counts = kept[kind] or [size] * len(layers)
        axes.bar(layers, 100 * np.array(counts) / size, color=BLUE)
        axes.set(title=KINDS[kind], xlabel="layer", ylim=(0, 105), xticks=layers)
        axes.grid(axis="x", visible=False)
        axes.set_axisbelow(True)
    figure.axes[0].set_ylabel("% kept")
    return figure


def leaf_through_gates(records: Iterable[Record]) -> dict[str, Widget]:
    """For each fine-tuned model, a slider over its L0 runs: heat maps of log_alpha by head."""
    runs = Runs(records)
    pages: dict[tuple[str, str], dict[str, str]] = {}

    def order(record: Any) -> tuple[Any, ...]:
        """Measured runs first; the sweep by penalty and seed, then what studies change."""
        of = record.parameters
        place = runs.variant_of(record), of["penalty_attn"] or 0.0, of["seed"]
        return record.provenance != "measured", *place

    given: list[Any] = [r for r in runs.of("score") if r.parameters["scorer"] == "l0"]
    for record in sorted(given, key=order):
        parameters, scores = record.parameters, record.metrics.get("scores", {})
        if "attn" not in scores:
            continue
        variant = runs.variant_of(record)
        name = f"λ = {parameters['penalty_attn']:g}, seed {parameters['seed']}"
        name += f", {variant}" if variant else ""
        alphas = np.array(scores["attn"], dtype=float)
        text = f"{name}: {np.mean(~(alphas > 0)):.0%} of the heads are at or below 0 and leave"
        image = picture(draw_gates(alphas), f"log_alpha by layer and head, {text}")
        where = {**vars(record), "data": parameters["data"], "model": runs.model_of(record)}
        own = pages.setdefault((place_of(where), runs.finetune_of(record)), {})
        own[name] = fill("{{ image }}<p>{{ text }}.</p>", image=image, text=text)
    return _distinct({key: slider_pages(own, description="run") for key, own in pages.items()})


def draw_gates(alphas: np.ndarray) -> Figure:
    """Heat map of log_alpha [n_layers, n_heads]; orange heads leave, crosses mark them too."""
    n_layers, n_heads = alphas.shape
    figure = Figure(figsize=(6.5, 1.2 + 0.28 * n_layers), layout="constrained")
    axes = figure.subplots()
    limit = float(np.abs(alphas).max()) or 1.0
    image = axes.imshow(alphas, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    for layer, head in np.argwhere(alphas <= 0):
        shade = "white" if alphas[layer, head] < -limit / 2 else "black"
        axes.text(head, layer, "×", ha="center", va="center", fontsize=8, color=shade)
    axes.set(xlabel="head", ylabel="layer")
    axes.set_xticks(range(n_heads), [str(head + 1) for head in range(n_heads)], fontsize=8)
    axes.set_yticks(range(n_layers), [str(layer + 1) for layer in range(n_layers)], fontsize=8)
    axes.grid(visible=False)
    figure.colorbar(image, label="α (log_alpha)")
    return figure


def _distinct(widgets: Mapping[tuple[str, str], Widget]) -> dict[str, Widget]:
    """By place; models of one place, fine-tuned in different ways, get the end of their run id."""
    times = Counter(place for place, _ in widgets)
    return {
        place if times[place] == 1 else f"{place}, {hash_of(run)}": widget
        for (place, run), widget in widgets.items()
    }


def _page(name: str, rows: pd.DataFrame, model: pd.DataFrame, shape: Mapping[str, int]) -> str:
    """A line on size and speed, a row for each way to go on after pruning, and the layers."""
    one = rows.iloc[0]
    kept = {k: None if one["kinds"] == "none" else one[f"kept_{k}"] for k in ("attn", "ff")}
    each = (f"{KINDS[k]} {'all' if n is None else ', '.join(map(str, n))}" for k, n in kept.items())
    alt = f"Slices kept by layer, {name}: {'; '.join(each)}"
    whole = model[model["kinds"].eq("none") & model["then"].eq("fine-tuned")]["f1"]
    return render(
        "point.html.jinja",
        point=one,
        rows=rows.to_dict("records"),
        whole=None if whole.empty else whole.iloc[0],
        number=number,
        image=picture(draw_layers(kept, shape), alt),
    )
