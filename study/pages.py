"""What report notebooks show, in the book and in JupyterLab alike: figures, tables, sentences."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import display
from markdown_it import MarkdownIt
from markupsafe import Markup

from qaprune_lib.errors import SettingsError
from study.figures.style import Drawing, save
from study.frames import SERIES
from study.interactive import picture
from study.markup import HOST, escape, fill, run_anchor, run_link, slug
from study.names import PROVENANCES, data_of, model_of, number, origin_of
from study.plan.plan import Planner
from study.plan.profile import read_profile
from study.plan.status import profile_status
from study.records.lineage import ROOT, changed_since
from study.records.record import Record, read_records, record_path

PROFILES = ROOT / "profiles"


class Page:
    """A report page: the records that it reads, and what its cells show.

    They show MyST for the book and HTML for a live notebook. The book takes MyST from cells with
    the metadata `mystnb: {markdown_format: myst}`, as `nb_mime_priority_overrides` prefers it.
    """

    def __init__(self, results: str, output: str) -> None:
        # a notebook that was opened by hand runs in its own folder
        self.results, self.output = ROOT / results, ROOT / output
        self.output.mkdir(parents=True, exist_ok=True)

    @cached_property
    def records(self) -> list[Record]:
        """All records of the folder."""
        return read_records(self.results)

    def figure(self, drawing: Drawing, name: str) -> None:
        """A figure, numbered as `fig-name`, and written as `name`.svg and .png beside the page."""
        name = slug(name)
        save(drawing.figure, self.output / f"{name}.svg")
        # quoted, as the options of a directive are YAML
        alt = json.dumps(drawing.alt, ensure_ascii=False)
        options = f":name: fig-{name}\n:alt: {alt}\n:width: 100%"
        caption = escape(drawing.caption)
        html = f"{picture(drawing.figure, drawing.alt)}<figcaption>{caption}</figcaption>"
        myst = f":::{{figure}} {name}.svg\n{options}\n\n{caption}\n:::"
        _show(myst, f"<figure>{html}</figure>")

    def table(self, frame: pd.DataFrame, name: str, caption: str, folded: str = "") -> None:
        """A table of cells, numbered as `tab-name`, in a `folded` box if that has a title."""
        title, rows = escape(caption), markdown(frame)
        myst = f":::{{table}} {title}\n:name: tab-{slug(name)}\n\n{rows}\n:::"
        if folded:
            myst = f"::::{{admonition}} {escape(folded)}\n:class: note dropdown\n\n{myst}\n::::"
        _show(myst, _html(f"{title}\n\n{rows}"))

    def text(self, template: str, /, **values: Any) -> None:
        """MyST with values in it, which are escaped."""
        if text := fill(template, **values):
            _show(text, _html(text))

    def each(
        self, frame: pd.DataFrame, name: str, *more: str, of: str
    ) -> Iterator[tuple[str, pd.DataFrame]]:
        """As `each_model`, after what has to be said of the numbers, or that there are none."""
        self.about(frame)
        for model, rows in each_model(frame, *more):
            yield f"{name}-{model}", rows
        if frame.empty:
            self.text("No profile has {{ of }} yet; {doc}`records` says how to make them.", of=of)

    def about(self, frame: pd.DataFrame) -> None:
        """What has to be said of a frame's rows, in a folded box: questions, models and records."""
        lines = []
        for column, name_of in (("data", data_of), ("model", model_of)):
            for _, place in frame.drop_duplicates(["profile", "provenance", column]).iterrows():
                if text := _said(str(place["profile"]), column, str(place[column])):
                    values = {"name": name_of(place), "origin": origin_of(place), "text": text}
                    lines.append(fill("**{{ name }}, {{ origin }}.** {{ text }}", **values))
        rows = set(frame[["provenance", "profile", "run"]].itertuples(index=False, name=None))
        own = [r for r in self.records if (r.provenance, r.profile, r.id) in rows]
        for how, records in groupby(sorted(own, key=made_at), key=made_at):
            links = Markup(", ").join(run_link(r.provenance, r.profile, r.id) for r in records)
            lines.append(fill("Records {{ how }}: {{ links }}.", how=how, links=links))
        if lines:
            text = "\n\n".join(lines)
            box = "{admonition} About these numbers\n:class: note dropdown"
            _show(f":::{box}\n\n{text}\n:::", _html(text))


def each_model(frame: pd.DataFrame, *more: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each model by itself, with a name for labels and files.

    Measured ones come first, and among those the ones with the most rows.
    """
    seen: Counter[str] = Counter()
    for provenance in PROVENANCES:
        rows = frame[frame["provenance"] == provenance]
        parts = [part for _, part in rows.groupby([*SERIES, *more], sort=False)]
        for part in sorted(parts, key=len, reverse=True):
            name = "-".join(str(part[column].iloc[0]) for column in ("profile", "data", "model"))
            name = slug(name)
            seen[name] += 1
            yield name if seen[name] == 1 else f"{name}-{seen[name]}", part


def models_with(frame: pd.DataFrame, mask: pd.Series[bool]) -> pd.DataFrame:
    """All rows of the fine-tuned models that have some row in the mask."""
    keys = [frame[column] for column in (*SERIES, "finetune")]
    return frame[mask.groupby(keys, sort=False).transform("any").astype(bool)]


def markdown(frame: pd.DataFrame) -> Markup:
    """A pipe table of escaped cells."""
    cells = frame.map(escape).rename(columns=escape)
    return Markup(cells.to_markdown(index=False, tablefmt="github", disable_numparse=True))


def made_at(record: Record) -> str:
    """The commit that a record was made at, and what of the library has changed since."""
    if record.commit is None:
        return "made outside of a git checkout"
    changed = changed_since(record.commit)
    since = "" if changed is None else f"; {changed} files of the library changed since"
    own = " with changes of its own" if record.dirty else ""
    return f"made at {record.commit[:7]}{own}{since}"


def records_table(records: Iterable[Record]) -> pd.DataFrame:
    """A row for each record: whose it is, and when, where and at what commit it was made."""
    name = '<a id="{{ anchor }}" href="{{ host }}/blob/main/results/{{ path }}">{{ name }}</a>'
    commit = '<a href="{{ host }}/commit/{{ commit }}">{{ made }}</a>'
    rows = []
    for record in records:
        path, made = record_path(Path(), record).as_posix(), made_at(record)
        anchor = run_anchor(record.provenance, record.profile, record.id)
        row = {
            "record": fill(name, anchor=anchor, host=HOST, path=path, name=record.id),
            "whose": origin_of(vars(record)),
            "commit": fill(commit, host=HOST, commit=record.commit, made=made)
            if record.commit
            else made,
            "started": record.started[:10],
            "minutes": number(record.seconds / 60, 1),
            "device": record.device,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def profiles_table(results: Path) -> pd.DataFrame:
    """A row for each profile: how many of its runs are recorded, and how to make the others."""
    rows = []
    for path in sorted(PROFILES.glob("*.yml")):
        profile = read_profile(path)
        try:
            runs = profile_status(Planner(profile, results=str(results)))
            state = f"{sum(run.state == 'complete' for run in runs)} of {len(runs)}"
        except SettingsError:  # runs are named by the files that they read
            state = "known where its questions are"
        source = " --source FOLDER" if None in [d.source for d in profile.data.values()] else ""
        command = f"python -m study graph {shlex.quote(f'profiles/{path.name}')}{source}"
        rows.append(
            {"profile": path.stem, "recorded runs": state, "what makes the others": command}
        )
    return pd.DataFrame(rows)


def _said(profile_name: str, column: str, name: str) -> str:
    """What a profile's file says of its questions, or of a model that differs from its others."""
    path = PROFILES / f"{profile_name}.yml"
    if not path.is_file():
        return f"There is no profiles/{path.name} any more that says where they come from."
    profile = read_profile(path)
    part: Any = (profile.others if column == "model" else profile.data).get(name)
    return "" if part is None else str(part.about)


def _show(myst: str, html: str) -> None:
    display({"text/markdown": myst, "text/html": html}, raw=True)


def _html(myst: str) -> str:
    return str(MarkdownIt("commonmark").enable("table").render(myst))
