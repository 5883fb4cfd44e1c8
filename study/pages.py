"""What report notebooks show, in the book and in JupyterLab alike: figures, tables, sentences."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from study.about import about_models, about_questions
from study.figures.style import save
from study.frames import SERIES
from study.interactive import picture
from study.missing import how_to_make, missing_runs, profile_names
from study.names import data_of, model_of, origin_of
from study.records.record import Record
from study.tables import markdown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PROVENANCES = ("measured", "embedded")
"""In the order in which pages show them."""


@dataclass(frozen=True)
class Shown:
    """Something to display: MyST for the book, HTML for a live notebook.

    The book takes MyST from cells with the metadata `mystnb: {markdown_format: myst}`, where
    `nb_mime_priority_overrides` sets text/markdown before text/html.
    """

    myst: str
    html: str

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/markdown": self.myst, "text/html": self.html}


def each_model(frame: pd.DataFrame, *more: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each model by itself, with a name for labels and files; measured ones first.

    Args:
        frame: with the columns `SERIES`.
        more: columns that tell apart further what is not to be mixed, for instance "finetune".
    """
    seen: Counter[str] = Counter()
    for provenance in PROVENANCES:
        rows = frame[frame["provenance"] == provenance]
        for _, part in rows.groupby([*SERIES, *more], sort=False):
            name = "-".join(str(part[column].iloc[0]) for column in ("profile", "data", "model"))
            name = "".join(c if c.isalnum() else "-" for c in name)
            seen[name] += 1
            yield name if seen[name] == 1 else f"{name}-{seen[name]}", part


def models_with(frame: pd.DataFrame, mask: pd.Series[bool]) -> pd.DataFrame:
    """All rows of the fine-tuned models that have some row in the mask."""
    keys = [frame[column] for column in (*SERIES, "finetune")]
    return frame[mask.groupby(keys, sort=False).transform("any").astype(bool)]


def show_figure(figure: Figure, folder: str | Path, name: str, caption: str, alt: str) -> Shown:
    """Write a figure as `name`.svg and .png and refer to it, numbered as `fig-name`.

    The page that shows it must lie in the same folder.
    """
    save(figure, Path(folder) / f"{name}.svg")
    options = f":name: fig-{name}\n:alt: {_line(alt)}\n:width: 100%"
    return Shown(
        f"```{{figure}} {name}.svg\n{options}\n\n{_line(caption)}\n```",
        f"<figure>{picture(figure, alt)}<figcaption>{html.escape(caption)}</figcaption></figure>",
    )


def show_table(frame: pd.DataFrame, name: str, caption: str) -> Shown:
    """A table of text cells, numbered as `tab-name`; it scrolls sideways where it is wide."""
    table = f"```{{table}} {_line(caption)}\n:name: tab-{name}\n\n{markdown(frame)}\n```"
    return Shown(table, f"<p>{html.escape(caption)}</p>" + frame.to_html(index=False))


def show_text(text: str) -> Shown:
    """A paragraph of MyST, whose numbers were computed."""
    return Shown(text, f"<p>{html.escape(text)}</p>")


def show_about(frame: pd.DataFrame) -> list[Shown]:
    """What has to be said of the questions and models of a frame's rows: one box, or none.

    Args:
        frame: with the columns `SERIES`.
    """
    lines = []
    for column, name_of, about in (
        ("data", data_of, about_questions),
        ("model", model_of, about_models),
    ):
        places = frame[["profile", "provenance", column]].drop_duplicates().to_dict("records")
        named = {
            (str(p["profile"]), str(p[column])): f"{name_of(p)}, {origin_of(p)}" for p in places
        }
        lines += [f"**{named[pair]}.** {text}" for pair, text in about(named).items()]
    if not lines:
        return []
    box = "```{admonition} About these numbers\n:class: note\n\n" + "\n\n".join(lines) + "\n```"
    return [Shown(box, "".join(f"<p>{_plain(line)}</p>" for line in lines))]


def show_missing(records: Sequence[Record], what: str, shown: Sequence[str] = ()) -> Shown:
    """Which profiles lack records, and how to make them.

    Args:
        records: all that there are.
        what: that the page draws, for instance "curves of attention heads".
        shown: names of the profiles that the page has drawn.
    """
    lines = []
    for profile in profile_names():
        missing = missing_runs(profile, records)
        stages = Counter(name.partition("/")[0] for name in missing)
        if missing:
            counts = ", ".join(f"{n} of stage {stage}" for stage, n in stages.items())
            state = "drawn from what is there" if profile in shown else f"no {what} yet"
            lines.append(
                f"- Profile `{profile}`, {state}: it lacks {len(missing)} runs that can be named "
                f"already ({counts}). "
                f"`{how_to_make(profile)}` makes them."
            )
    if not lines:
        return show_text("No profile lacks a record.")
    return Shown(
        "\n".join(lines), "<ul>" + "".join(f"<li>{_plain(s)}</li>" for s in lines) + "</ul>"
    )


def _line(text: str) -> str:
    return " ".join(text.split())


def _plain(line: str) -> str:
    return html.escape(line.removeprefix("- ").replace("`", "").replace("**", ""))
