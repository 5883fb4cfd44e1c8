"""How time and memory grow with the questions, from the record of the benchmark `growth`."""

from __future__ import annotations

from statistics import median
from typing import Any

from study.figures import style
from study.figures.style import Drawing

NAMES = {"l0": "L0 gates, one epoch", "reading": "reading NQ-format pages", "decoding": "decoding"}


def growth_figure(record: dict[str, Any]) -> Drawing:
    """Seconds and MiB against the number of questions, both logarithmic; medians over rounds."""
    points: dict[str, list[dict[str, float]]] = record["points"]
    rounds = record["options"]["rounds"]
    with style.canvas("How cost grows", 6.8, 3.6, columns=2) as (figure, axes):
        for place, (what, found) in enumerate(points.items()):
            counts = sorted({one["count"] for one in found})
            for panel, value in zip(axes, ("seconds", "mib"), strict=True):
                each = [median(o[value] for o in found if o["count"] == n) for n in counts]
                # less than a page of memory cannot be drawn
                drawn = [max(one, 0.1) for one in each]
                style.plot(panel, counts, drawn, style.nth(place), NAMES.get(what, what))
        for panel, label in zip(axes, ("seconds", "added memory (MiB)"), strict=True):
            panel.set(xscale="log", yscale="log", ylabel=label)
            panel.set_xlabel("questions, or pages")
    caption = (
        "Time, and peak memory over that of one question, of the library's parts at 1, 10 and 100 "
        f"times as many questions ({record['options']['model']}, {record['device']}; medians of "
        f"{rounds} rounds, each a process of its own). Less than 0.1 MiB is drawn there. "
        "Decoding holds 2,048 windows at most, reading one page."
    )
    return Drawing(figure, caption)
