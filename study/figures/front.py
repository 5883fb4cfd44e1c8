"""The picture of README and home page: F1 lost against speed-up, the paper's points and ours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from study.claims.estimate import MARGIN
from study.compressed import compressions, with_most_time
from study.figures.style import LOOKS, VERMILION, Drawing, Look, plot
from study.frames import scored_models
from study.names import DATA, MODELS, counted
from study.paper.published import TABLE_2
from study.records.record import Record
from study.tables import THEN, operating_points

PICTURE = Path("book/_static/front.svg")
"""The light one; the dark one lies beside it."""
INK = {"front.svg": "#24292f", "front-dark.svg": "#e6edf3"}
"""Colour of text and of the paper's points, by file; the ground is transparent."""
COMPRESS = {"squad1": Look(VERMILION, "D", "none"), "squad2": Look(VERMILION, "v", "none")}
"""By questions."""


def front_figure(records: Iterable[Record], ink: str) -> Drawing:
    """Measured models that lost gates of both kinds, `compress`, and the paper's Table 2.

    Each over its own unpruned model. Only models on SQuAD that were timed, and that stand above
    answering nothing.
    """
    records = [record for record in records if record.provenance == "measured"]
    points = operating_points(scored_models(records))
    calls = with_most_time(compressions(records))
    points = points[points["data"].str.startswith("squad")]
    whole = points[points["then"].eq("fine-tuned")].set_index(["profile", "data", "model"])["f1"]
    ours = points[points["kinds"].eq("both") & points["speedup"].notna()]
    ours = ours[ours["f1"] - ours["floor"] >= MARGIN].copy()
    index = pd.MultiIndex.from_frame(ours[["profile", "data", "model"]])
    ours["lost"] = whole.reindex(index).to_numpy() - ours["f1"].to_numpy()
    colours = {"text.color": ink, "axes.labelcolor": ink, "xtick.color": ink, "ytick.color": ink}
    with mpl.rc_context(), sns.axes_style("whitegrid", {**colours, "axes.edgecolor": "#8c959f"}):
        mpl.rcParams.update({"font.size": 10, "axes.facecolor": "none", "grid.color": "#8c959f55"})
        figure = Figure(figsize=(7.2, 3.8), layout="constrained", facecolor="none")
        axes = figure.subplots()
        base = TABLE_2.rows[0]
        for name, retrained, marker in (("retrained", True, "o"), ("not retrained", False, "s")):
            printed = [row for row in TABLE_2.rows[1:] if row.retrained == retrained]
            speed = [base.seconds / row.seconds for row in printed]
            lost = [base.f1 - row.f1 for row in printed]
            label = f"paper: BERT-large, SQuAD 2.0, {name} (published)"
            plot(axes, speed, lost, Look(ink, marker, "none"), label, markerfacecolor="none")
        for then in THEN[1:]:
            rows = ours[ours["then"].eq(then)]
            if len(rows):
                label = f"ours: {_of(rows)}, {then}"
                plot(axes, rows["speedup"], rows["lost"], LOOKS[then].points, label)
        for data, look in COMPRESS.items():
            rows = calls[calls["data"].eq(data)]
            if len(rows):
                label = f"ours: {_of(rows)}, compress in one call"
                plot(axes, rows["speedup"], rows["unpruned_f1"] - rows["f1"], look, label)
        axes.axhline(0, color=ink, linewidth=0.8)
        axes.set(xlabel="speed-up (× unpruned)", ylabel="F1 points lost", xlim=(0.95, None))
        axes.invert_yaxis()
        sns.despine(ax=axes)
        place: Any = {"loc": "outside lower center", "ncols": 1, "frameon": False}
        figure.legend(**place)
    caption = (
        "F1 lost against decoding speed, each model over its own unpruned one. Published: the "
        f"paper's Table 2. Measured: {counted(ours['runs'].max(), 'seed')} of the gates, "
        f"n = {ours['n'].max():,.0f} dev questions."
    )
    return Drawing(figure, caption)


def _of(rows: pd.DataFrame) -> str:
    models = " and ".join(MODELS.get(name, name) for name in sorted(set(rows["model"])))
    return f"{models}, {' and '.join(DATA.get(name, name) for name in sorted(set(rows['data'])))}"


def write_front(records: Iterable[Record], light: Path) -> None:
    """Write both files; what they show stands in their description too."""
    records = list(records)
    for name, ink in INK.items():
        drawing = front_figure(records, ink)
        with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
            told: Any = {"Date": None, "Title": drawing.caption, "Description": drawing.alt}
            drawing.figure.savefig(light.with_name(name), metadata=told)
