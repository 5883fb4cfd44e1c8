"""Figures of the paper, one function each: frames in, a matplotlib figure out.

A figure shows one model of one profile; published points stand apart from ours. Each comes with a
`describe_…` function for its caption and an `alt_…` function for readers who do not see it.
"""

from __future__ import annotations

from study.figures.audit import decoding_times, verdicts
from study.figures.controls import (
    alt_controls,
    alt_studies,
    control_rows,
    controls,
    describe_controls,
    describe_studies,
    studies,
)
from study.figures.curves import (
    alt_curves,
    curve_facts,
    describe_curves,
    embeddings,
    figure1,
    figure2,
)
from study.figures.layers import alt_layers, describe_layers, figure3
from study.figures.natural_questions import (
    alt_figure4,
    alt_figure4_published,
    arms,
    figure4,
    figure4_published,
)
from study.figures.speed import (
    alt_speed,
    describe_speed,
    score_facts,
    table2_figure,
    time_facts,
    timed_on,
)
from study.figures.style import save
from study.figures.tasks import alt_gaps, gaps

__all__ = [
    "alt_controls",
    "alt_curves",
    "alt_figure4",
    "alt_figure4_published",
    "alt_gaps",
    "alt_layers",
    "alt_speed",
    "alt_studies",
    "arms",
    "control_rows",
    "controls",
    "curve_facts",
    "decoding_times",
    "describe_controls",
    "describe_curves",
    "describe_layers",
    "describe_speed",
    "describe_studies",
    "embeddings",
    "figure1",
    "figure2",
    "figure3",
    "figure4",
    "figure4_published",
    "gaps",
    "save",
    "score_facts",
    "studies",
    "table2_figure",
    "time_facts",
    "timed_on",
    "verdicts",
]
