"""The audit of the paper's own tables as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from study.figures import style
from study.figures.style import BLACK, BLUE, ORANGE, Drawing, Look
from study.paper.audit import AuditItem
from study.paper.fits import fit_decoding_time
from study.paper.published import TABLE_2


def decoding_times() -> Drawing:
    """Table 2's decoding times against a time model that three of its rows determine."""
    fit, rows = fit_decoding_time(), TABLE_2.rows
    title = f"t = {fit.constant:.0f} + {fit.attn:.0f}·(1−a) + {fit.ff:.0f}·(1−f)"
    fitted = [row for row in rows if row.model in ("no pruning", "attn_1", "ff_1")]
    predicted = [row for row in rows if row not in fitted]
    with style.canvas(title, 5.6, 4.5) as (figure, (axes,)):
        ends = [0.9 * rows[-1].seconds, 1.05 * rows[0].seconds]
        axes.plot(ends, ends, color=BLACK, linewidth=0.8, label="equal")
        for name, look, part in (
            ("fitted rows", Look(ORANGE, "s", "none"), fitted),
            ("predicted rows", Look(BLUE, "o", "none"), predicted),
        ):
            seconds = [row.seconds for row in part]
            style.plot(axes, seconds, [fit.seconds(row) for row in part], look, name)
        axes.set(xlabel="published decoding time (s)", ylabel="time from the model (s)")
    caption = (
        "Decoding times of Table 2 (published, medians of 5 runs on a K80) against a time linear "
        "in what is kept, fitted to three of the eight rows; a and f are the shares of heads and "
        "activations removed."
    )
    return Drawing(figure, caption)


def verdicts(items: Sequence[AuditItem]) -> Drawing:
    """How many statements hold, by table or section that they draw on first."""
    places = list(dict.fromkeys(item.sources[0] for item in items))
    holds, misses = (
        [sum(i.holds == held for i in items if i.sources[0] == place) for place in places]
        for held in (True, False)
    )
    title = "the paper's own numbers, audited"
    with style.canvas(title, 6.2, 1.3 + 0.32 * len(places)) as (figure, (axes,)):
        axes.barh(places, holds, color=BLUE, label="agree")
        hatched: Any = {"color": "none", "edgecolor": BLACK, "hatch": "///"}
        axes.barh(places, misses, left=holds, label="disagree", **hatched)
        axes.invert_yaxis()
        axes.set(xlabel="statements", ylabel="first source")
    caption = (
        "Statements of the audit by the table or section that they draw on first (published "
        "numbers)."
    )
    return Drawing(figure, caption)
