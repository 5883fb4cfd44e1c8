"""The audit of the paper's own tables as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from study.figures.style import BLUE, ORANGE, PUBLISHED, panels, paper_style
from study.paper.audit import AuditItem
from study.paper.fits import fit_decoding_time
from study.paper.published import TABLE_2

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def decoding_times() -> Figure:
    """Table 2's decoding times against a time model that three of its rows determine.

    t = constant + attn·(1−a) + ff·(1−f), with a and f the shares removed.
    """
    fit = fit_decoding_time()
    fitted = ("no pruning", "attn_1", "ff_1")
    with paper_style():
        figure, (axes,) = panels(5.6, 4.2)
        ends = [0.9 * TABLE_2.rows[-1].seconds, 1.05 * TABLE_2.rows[0].seconds]
        axes.plot(ends, ends, color="#000000", linewidth=0.8, label="equal")
        for name, color, marker, rows in (
            ("fitted rows", ORANGE, "s", [r for r in TABLE_2.rows if r.model in fitted]),
            ("predicted rows", BLUE, "o", [r for r in TABLE_2.rows if r.model not in fitted]),
        ):
            axes.plot(
                [row.seconds for row in rows],
                [fit.seconds(row) for row in rows],
                color=color,
                marker=marker,
                linestyle="none",
                label=name,
            )
        axes.set(
            xlabel="published decoding time (s)",
            ylabel="time from the model (s)",
            title=f"t = {fit.constant:.0f} + {fit.attn:.0f}·(1−a) + {fit.ff:.0f}·(1−f)",
        )
        axes.legend(fontsize="small")
    return figure


def verdicts(items: Sequence[AuditItem]) -> Figure:
    """How many statements hold, by table or section that they draw on first."""
    places = list(dict.fromkeys(item.sources[0] for item in items))
    holds = [sum(i.holds for i in items if i.sources[0] == place) for place in places]
    misses = [sum(not i.holds for i in items if i.sources[0] == place) for place in places]
    with paper_style():
        figure, (axes,) = panels(6.2, 0.9 + 0.32 * len(places))
        axes.barh(places, holds, color=BLUE, label="agree")
        axes.barh(
            places,
            misses,
            left=holds,
            color="none",
            edgecolor=PUBLISHED.color,
            hatch="///",
            label="disagree",
        )
        axes.invert_yaxis()
        axes.set(
            xlabel="statements", ylabel="first source", title="the paper's own numbers, audited"
        )
        axes.legend(fontsize="small")
    return figure
