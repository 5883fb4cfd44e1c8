"""Figure 3 of the paper: what remains of each layer."""

from __future__ import annotations

import pandas as pd

from study.figures import style
from study.figures.style import Drawing
from study.frames import KINDS
from study.names import counted, place_of


def figure3(layers: pd.DataFrame) -> Drawing:
    """What remains of each layer at multiples of the selected λ, from `layer_shares`."""
    place, seeds = place_of(style.one_source(layers)), layers["gate_seed"].nunique()
    with style.canvas(place, 7.6, 3.8, 2, legend=4) as (figure, axes):
        for axis, kind in zip(axes, ("attn", "ff"), strict=True):
            rows = layers[layers["kind"] == kind]
            for position, (multiple, series) in enumerate(rows.groupby("multiple")):
                look, label = style.nth(position), f"λ × {multiple:g}"
                style.means(axis, series, "layer", "remaining", look, label)
            axis.set(xlabel="layer (1 is next to the embeddings)", ylabel=f"{KINDS[kind]} left (%)")
            axis.set(ylim=(0, 105), xticks=sorted(rows["layer"].unique()))
    spread = ", mean and ± sd" if seeds > 1 else ""
    caption = (
        f"Heads and feed-forward activations that remain in each layer, {place}: pruned at "
        f"multiples of the selected λ; {counted(seeds, 'seed')} of the gates{spread}. Counted in "
        "the pruned models, so no questions enter."
    )
    return Drawing(figure, caption)
