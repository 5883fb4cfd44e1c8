"""How all figures look: colours, markers and line styles that also tell apart in grey print."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from qaprune_lib.errors import RecordError
from study.frames import SERIES
from study.names import counted
from study.tables import NOTHING

PNG_DPI = 150


class Look(NamedTuple):
    """Colour, marker and line style of a series."""

    color: str
    marker: str
    linestyle: Any

    @property
    def points(self) -> Look:
        """The same without a line."""
        return self._replace(linestyle="none")


# Okabe and Ito's palette, which readers with any of the common colour blindnesses can tell apart.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#777777"

LOOKS = {
    "random": Look(GREY, "x", (0, (1, 1))),
    "gain": Look(ORANGE, "s", (0, (5, 2))),
    "leave-one-out": Look(GREEN, "^", (0, (3, 1, 1, 1))),
    "L0": Look(BLUE, "*", "-"),
    "Fisher": Look(VERMILION, "D", (0, (5, 1, 1, 1, 1, 1))),
    "gain at 0": Look(PURPLE, "v", (0, (2, 2))),
    "fine-tuned": Look(BLACK, "P", "-"),
    "not retrained": Look(ORANGE, "s", (0, (1, 1))),
    "cross-entropy": Look(BLUE, "o", "-"),
    "distillation": Look(GREEN, "^", (0, (5, 2))),
}
"""By the label of a scorer, and by what follows pruning."""

SEQUENCE = (
    Look(BLUE, "o", "-"),
    Look(ORANGE, "s", (0, (5, 2))),
    Look(GREEN, "^", (0, (3, 1, 1, 1))),
    Look(PURPLE, "D", (0, (1, 1))),
    Look(VERMILION, "v", (0, (5, 1, 1, 1, 1, 1))),
    Look(SKY, "P", (0, (2, 2))),
    Look(GREY, "X", (0, (8, 2))),
    Look(BLACK, "*", (0, (3, 3))),
)
"""For series without a look of their own."""

PUBLISHED = Look(BLACK, "o", (0, (1, 1)))
"""Points that the paper prints: hollow, never joined to ours."""


@dataclass(frozen=True)
class Drawing:
    """A figure and its caption: what is drawn, of how many questions and seeds, whose numbers."""

    figure: Figure
    caption: str

    @property
    def alt(self) -> str:
        """What is drawn, read back from the axes, for readers who do not see it."""
        return " ".join(_in_words(axes) for axes in self.figure.axes)


def nth(position: int) -> Look:
    """The look of the series at a position."""
    return SEQUENCE[position % len(SEQUENCE)]


def plot(axes: Axes, x: Any, y: Any, look: Look, label: str, **more: Any) -> None:
    """A series in its look."""
    axes.plot(x, y, label=label, markeredgecolor=look.color, **{**look._asdict(), **more})


def banded(axes: Axes, x: Any, y: Any, spread: Any, look: Look, label: str, **more: Any) -> None:
    """A series with a band of ± spread, where there is any."""
    plot(axes, x, y, look, label, **more)
    y, spread = np.asarray(y), np.nan_to_num(np.asarray(spread, dtype=float))
    if spread.any():
        band: Any = {"color": look.color, "alpha": 0.2, "linewidth": 0}
        axes.fill_between(x, y - spread, y + spread, **band)


def means(axes: Axes, rows: pd.DataFrame, x: str, y: str, look: Look, label: str) -> None:
    """The mean of a column by another, with a band of ± sd."""
    by_place = rows.groupby(x)[y]
    mean = by_place.mean()
    banded(axes, mean.index, mean, by_place.std(), look, label)


FAR = 2.0
"""Times the largest loss that is drawn: further up a line would press all curves flat."""


def floor(axes: Axes, values: Any, *, of_x: bool = False, lost: bool = False) -> None:
    """A line at what answering nothing scores, or loses; values of several rows, which agree.

    A loss that lies far above all that is drawn is written at the edge: the line leaves the axes.
    """
    highest = axes.dataLim.y1
    for value in sorted({round(float(value), 1) for value in values if value == value}):
        line = axes.axvline if of_x else axes.axhline
        line(value, color=BLACK, linewidth=0.8, linestyle=(0, (4, 2, 1, 2)), label=NOTHING)
        if lost and value > FAR * highest > 0:
            axes.set_ylim(top=1.15 * highest)
            place: Any = {"xycoords": "axes fraction", "ha": "right", "va": "top", "size": "small"}
            axes.annotate(f"{NOTHING} loses {value:.1f} ↑", (0.98, 0.98), **place)


def one_source(frame: pd.DataFrame) -> dict[str, str]:
    """Profile, provenance, data and model that all rows share; a `RecordError` if they do not."""
    found = {column: sorted(map(str, frame[column].unique())) for column in SERIES}
    for column, values in found.items():
        if len(values) != 1:
            what = ", ".join(values) or "none"
            raise RecordError(f"a figure is drawn of one {column}, here are: {what}")
    return {column: values[0] for column, values in found.items()}


def basis(models: pd.DataFrame) -> str:
    """What rows of `scored_models` rest on."""
    seeds = counted(models["gate_seed"].nunique(), "seed")
    return f"n = {models['n'].max():,.0f} dev questions, {seeds} of the gates"


@contextmanager
def canvas(
    title: str, width: float, height: float, columns: int = 1, *, legend: int = 3, **grid: Any
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure in seaborn's white grid, outside of pyplot's list of open ones, and its axes.

    It ends with its title and a legend of so many columns below, of every named series once. Names
    with dollar signs are no formulas. `grid` is more for `Figure.subplots`, for instance `nrows`.
    """
    with mpl.rc_context(), sns.axes_style("whitegrid"), sns.plotting_context("paper", 1.15):
        settings: Any = {"axes.titlesize": "medium", "text.parse_math": False}
        mpl.rcParams.update(settings)
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = list(figure.subplots(ncols=columns, squeeze=False, **grid).flat)
        yield figure, axes
        figure.suptitle(title, fontsize="medium")
        labels = [zip(*each.get_legend_handles_labels(), strict=True) for each in axes]
        named = {name: handle for each in labels for handle, name in each}
        place: Any = {"loc": "outside lower center", "ncols": legend, "frameon": False}
        figure.legend(list(named.values()), list(named), **place)


def save(figure: Figure, path: Path) -> None:
    """Write `path` as SVG and, beside it, as PNG; the same figure gives the same SVG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "path"}):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=PNG_DPI)


def _in_words(axes: Axes) -> str:
    """A panel's series: of a joined one both ends, of loose points each."""
    series = []
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        line: Any = handle[0] if isinstance(handle, ErrorbarContainer) else handle
        joined = isinstance(line, Line2D) and line.get_linestyle() != "None"
        if isinstance(handle, BarContainer):
            drawn = [(bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in handle]
        else:
            drawn = list(np.asarray(line.get_xydata()))
        said = [f"{_tick(axes.yaxis, y)} at {_tick(axes.xaxis, x)}" for x, y in drawn]
        if joined and len({y for _, y in drawn}) == 1 < len(drawn):
            said = [f"{_tick(axes.yaxis, drawn[0][1])} throughout"]
        elif joined and len(drawn) > 2:
            said = [f"from {said[0]} to {said[-1]}"]
        series.append(f"{label}: {', '.join(said)}")
    what = " against ".join(filter(None, (axes.get_ylabel(), axes.get_xlabel())))
    return " ".join(f"{what}: {'; '.join(series)}.".split())


def _tick(axis: Axis, value: float) -> str:
    """A value as its axis names it, or with three digits."""
    named = axis.get_major_formatter()
    return str(named(value, None)) if isinstance(named, FuncFormatter) else f"{value:.3g}"
