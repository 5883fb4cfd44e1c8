"""Figure 3 of the paper: what remains of each layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.figures.style import (
    legend_below,
    look,
    one_source,
    panels,
    paper_style,
)
from study.frames import KINDS
from study.names import counted, place_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def figure3(layers: pd.DataFrame) -> Figure:
    """Percentage of heads and of activations remaining by layer, from `layer_shares` of one model.

    A line for each multiple of the selected λ: mean over the gates' seeds, band ± sd.

    Raises:
        RecordError: the rows are of several profiles, data sets or models, or of none.
    """
    source = one_source(layers)
    with paper_style() as sns:
        figure, axes = panels(7.6, 3.8, 2)
        for axis, kind in zip(axes, ("attn", "ff"), strict=True):
            rows = layers[layers["kind"] == kind]
            for position, (multiple, series) in enumerate(rows.groupby("multiple", sort=True)):
                style = look("", position)
                sns.lineplot(
                    series,
                    x="layer",
                    y="remaining",
                    errorbar="sd",
                    label=f"λ × {multiple:g}",
                    ax=axis,
                    legend=False,
                    color=style.color,
                    marker=style.marker,
                    linestyle=style.linestyle,
                )
            axis.set(xlabel="layer (1 is next to the embeddings)", ylabel=f"{KINDS[kind]} left (%)")
            axis.set_ylim(0, 105)
            axis.set_xticks(sorted(rows["layer"].unique()))
        legend_below(figure, axes[0], columns=4)
        figure.suptitle(place_of(source), fontsize="medium")
    return figure


def describe_layers(layers: pd.DataFrame) -> str:
    """The caption's facts: what is drawn, seeds, profile and provenance."""
    source, seeds = one_source(layers), layers["gate_seed"].nunique()
    spread = ", mean and ± sd" if seeds > 1 else ""
    return (
        f"Heads and feed-forward activations that remain in each layer, {place_of(source)}: pruned "
        f"at multiples of the selected λ; {counted(seeds, 'seed')} of the gates{spread}. Counted "
        "in the pruned models, so no questions enter."
    )


def alt_layers(layers: pd.DataFrame) -> str:
    """The shares by layer at the smallest multiple."""
    least = layers[layers["multiple"] == layers["multiple"].min()]
    texts = []
    for kind, rows in least.groupby("kind", sort=True):
        shares = rows.groupby("layer")["remaining"].mean()
        texts.append(f"{KINDS[str(kind)]} " + ", ".join(f"{share:.0f}%" for share in shares))
    return "What remains from the first layer to the last at the smallest λ: " + "; ".join(texts)
