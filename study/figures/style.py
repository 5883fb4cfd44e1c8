"""How all figures look: colours, markers and line styles that also tell apart in grey print."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from qaprune_lib.errors import RecordError
from study.frames import SERIES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PNG_DPI = 150


class Look(NamedTuple):
    """Colour, marker and line style of a series."""

    color: str
    marker: str
    linestyle: Any


# Okabe and Ito's palette, which readers with any of the common colour blindnesses can tell apart.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#777777"

LOOKS = {
    "random": Look(GREY, "x", (0, (1, 1))),
    "gain": Look(ORANGE, "s", (0, (5, 2))),
    "leave_one_out": Look(GREEN, "^", (0, (3, 1, 1, 1))),
    "l0": Look(BLUE, "*", "-"),
    "fisher": Look(VERMILION, "D", (0, (5, 1, 1, 1, 1, 1))),
    "gain at 0": Look(PURPLE, "v", (0, (2, 2))),
    "fine-tuned": Look(BLACK, "P", "-"),
    "not retrained": Look(ORANGE, "s", (0, (1, 1))),
    "cross-entropy": Look(BLUE, "o", "-"),
    "distillation": Look(GREEN, "^", (0, (5, 2))),
}
"""By scorer, and by what follows pruning."""

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


def look(name: str, position: int = 0) -> Look:
    """The look of a scorer or a training by name, else of the series at a position."""
    return LOOKS.get(name, SEQUENCE[position % len(SEQUENCE)])


def one_source(frame: pd.DataFrame) -> dict[str, str]:
    """Profile, provenance, data and model that all rows share.

    Raises:
        RecordError: there is no row, or the rows are of several.
    """
    found = {column: sorted(map(str, frame[column].unique())) for column in SERIES}
    for column, values in found.items():
        if len(values) != 1:
            what = ", ".join(values) or "none"
            raise RecordError(f"a figure is drawn of one {column}, here are: {what}")
    return {column: values[0] for column, values in found.items()}


@contextmanager
def paper_style() -> Iterator[Any]:
    """Seaborn's white grid in the sizes of a book page; yields seaborn."""
    import matplotlib as mpl
    import seaborn as sns

    with mpl.rc_context(), sns.axes_style("whitegrid"), sns.plotting_context("paper", 1.15):
        mpl.rcParams.update({"axes.titlesize": "medium", "legend.frameon": True})
        yield sns


def panels(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with a row of axes, outside of pyplot's list of open figures; sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def legend_below(figure: Figure, *axes: Axes, columns: int = 3) -> None:
    """Every named series of some axes once, under the figure."""
    named = {
        name: handle
        for each in axes
        for handle, name in zip(*each.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(named.values()), list(named), loc="outside lower center", ncols=columns, frameon=False
    )


def save(figure: Figure, path: Path) -> list[Path]:
    """Write `path` as SVG and, beside it, as PNG; the same figure gives the same SVG.

    Returns:
        Both paths.
    """
    import matplotlib as mpl

    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, settings in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": PNG_DPI})):
        buffer = io.BytesIO()
        with mpl.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "path"}):
            figure.savefig(buffer, format=suffix[1:], **settings)
        target = path.with_suffix(suffix)
        temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
        temporary.write_bytes(buffer.getvalue())
        os.replace(temporary, target)
        written.append(target)
    return written
