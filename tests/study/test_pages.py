"""Report pages: notebooks without outputs, what pages show, and what they say is missing."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from matplotlib.figure import Figure

from study import pages
from study.figures.style import Drawing
from study.frames import curve_points, scored_models
from study.markup import HOST, run_anchor, run_link
from study.pages import (
    Page,
    each_model,
    made_at,
    markdown,
    models_with,
    profiles_table,
    records_table,
)
from study.records.lineage import changed_since
from study.records.record import Record, write_record
from tests.conftest import REPOSITORY
from tests.study.synthetic import Sweep, sweep

FOLDER = REPOSITORY / "notebooks" / "report"
NAMES = ("table1", "figure1", "figure2", "embeddings", "table2", "figure3", "controls", "records")
NAMES += ("natural_questions", "audit")
Shown = list[dict[str, str]]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """What pages display from here on."""
    found: Shown = []
    monkeypatch.setattr(pages, "display", lambda data, **_: found.append(data))
    return found


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., Page]:
    """A page over given records."""

    def made(*sweeps: Sweep) -> Page:
        (tmp_path / "results").mkdir()
        for record in [record for one in sweeps for record in one.records]:
            write_record(tmp_path / "results", record)
        return Page(str(tmp_path / "results"), str(tmp_path / "book"))

    return made


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_kept_without_outputs(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in cells if cell.outputs or cell.execution_count]
    tagged = [cell for cell in cells if "parameters" in cell.metadata.tags]
    assert len(tagged) == 1
    assert 'results = "results"' in tagged[0].source
    assert 'output = "book/_generated"' in tagged[0].source
    for cell in cells:
        if cell is not tagged[0]:
            assert {"hide-input", "remove-input"} & set(cell.metadata.tags)
            assert cell.metadata.mystnb == {"markdown_format": "myst"}


@pytest.mark.slow
def test_a_notebook_runs_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import papermill

    name = "figure1"
    made = [sweep(profile="embedded"), sweep(profile="measured", provenance="measured")]
    for record in [record for one in made for record in one.records]:
        write_record(tmp_path / "results", record)
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for module in ("torch", "transformers", "datasets"):
        (blocked / f"{module}.py").write_text("raise ImportError('not in this environment')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(blocked), str(REPOSITORY)]))
    out = tmp_path / "book"
    out.mkdir()
    papermill.execute_notebook(
        FOLDER / f"{name}.ipynb",
        out / f"{name}.ipynb",
        parameters={"results": str(tmp_path / "results"), "output": str(out)},
        kernel_name="python3",
        cwd=REPOSITORY,
        progress_bar=False,
        log_output=False,
    )
    texts = [
        output.data["text/markdown"]
        for cell in nbformat.read(out / f"{name}.ipynb", as_version=4).cells
        for output in cell.get("outputs", ())
        if "text/markdown" in output.get("data", {})
    ]
    labels = [line for text in texts for line in text.splitlines() if line.startswith(":name:")]
    assert len(set(labels)) == len(labels)
    drawn = [text for text in texts if text.startswith(":::{figure}")]
    assert ["measured" in text for text in drawn] == [True, False]
    for text in drawn:
        assert (out / text.split()[1]).is_file()
    suffixes = [".ipynb", ".png", ".png", ".svg", ".svg"]
    assert sorted(path.suffix for path in out.iterdir()) == suffixes


def test_each_model_by_itself_and_measured_first() -> None:
    made = [sweep(profile="e", large="mpnet"), sweep(profile="m", provenance="measured")]
    models = scored_models([record for one in made for record in one.records])
    found = dict(each_model(models))
    assert list(found) == ["m-squad2-minilm", "e-squad2-mpnet", "e-squad2-minilm"]
    sizes = list(map(len, found.values()))
    assert sizes[1] > sizes[2]  # the one with more to show comes first
    assert sum(map(len, found.values())) == len(models)
    for rows in found.values():
        assert rows[["profile", "provenance", "model"]].drop_duplicates().shape[0] == 1
    pruned = models_with(models, models["kinds"] != "none")
    assert list(dict(each_model(pruned))) == ["m-squad2-minilm", "e-squad2-mpnet"]
    twice = pd.concat([models.assign(finetune="a"), models.assign(finetune="b")])
    assert "m-squad2-minilm-2" in dict(each_model(twice, "finetune"))


def test_what_is_shown(page: Callable[..., Page], shown: Shown) -> None:
    report = page()
    figure = Figure()
    figure.subplots().plot([0, 1], [0, 1], label='"steep"')
    report.figure(Drawing(figure, "What it\nshows."), "a/figure")
    report.table(pd.DataFrame({"a": ["1 | 2"]}), "t", "A caption.")
    report.text("{numref}`fig-a-figure` has {{ n }}.", n="1 < 2")
    report.text("{{ nothing }}", nothing="")
    report.table(pd.DataFrame({"a": ["1"]}), "u", "Another.", folded="All rows")
    folded = shown.pop()["text/markdown"]
    assert folded.startswith(
        "::::{admonition} All rows\n:class: note dropdown\n\n:::{table} Another."
    )
    assert len(shown) == 3
    assert shown[0]["text/markdown"] == (
        ":::{figure} a-figure.svg\n:name: fig-a-figure\n"
        ':alt: ": \\"steep\\": 0 at 0, 1 at 1."\n:width: 100%\n\nWhat it shows.\n:::'
    )
    assert (report.output / "a-figure.svg").is_file()
    assert 'alt=": &#34;steep&#34;: 0 at 0, 1 at 1."' in shown[0]["text/html"]
    assert shown[1]["text/markdown"].startswith(":::{table} A caption.\n:name: tab-t\n\n| a")
    assert "<td>1 | 2</td>" in shown[1]["text/html"]
    assert shown[2]["text/markdown"] == "{numref}`fig-a-figure` has 1 &#60; 2."
    assert "has 1 &lt; 2." in shown[2]["text/html"]


def test_cells_of_a_table() -> None:
    lines = markdown(pd.DataFrame({"a": ["1", "x|y"], "b*": ["x", "–"]})).splitlines()
    assert [line.strip("| ").split(" | ")[0].strip() for line in lines[2:]] == ["1", "x&#124;y"]
    assert lines[0].split() == ["|", "a", "|", "b&#42;", "|"]


def test_what_must_be_said_of_questions_models_and_records(
    page: Callable[..., Page], shown: Shown
) -> None:
    made = [
        Sweep(profile=profile, provenance=provenance, data=data)
        for profile, provenance in (("pilot", "measured"), ("embedded", "embedded"))
        for data in ("squad2", "squad1")
    ]
    for one in made:
        for model in ("minilm", "mpnet-base"):
            one.finetune(model)
    report = page(*made)
    report.about(scored_models(report.records))
    text = shown[0]["text/markdown"]
    assert text.startswith(":::{admonition} About these numbers\n:class: note dropdown\n")
    assert text.count("**SQuAD 2.0, measured, profile pilot.** Dev is official; train is a") == 1
    assert (
        text.count("**MPNet, measured, profile pilot.** The base model of all-mpnet-base-v2") == 1
    )
    assert text.count("**") == 4
    assert text.count('<a href="records.html#record-') == len(report.records) == 8
    assert "Records made at c0c0c0c: <a " in text
    assert (
        "<strong>SQuAD 2.0, measured, profile pilot.</strong> Dev is official"
        in shown[0]["text/html"]
    )
    report.about(scored_models([]))
    assert len(shown) == 1
    report.about(scored_models(report.records).assign(profile="unheard-of"))
    assert "There is no profiles/unheard-of.yml any more" in shown[1]["text/markdown"]


def test_each_record_says_its_commit_and_what_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    [record] = _records(commit="ab" * 20)
    assert made_at(record) == "made at abababa"  # git knows no such commit
    monkeypatch.setattr(pages, "changed_since", lambda commit: 3 if commit == "ab" * 20 else None)
    assert made_at(record) == "made at abababa; 3 files of the library changed since"
    assert made_at(record.model_copy(update={"commit": None})) == "made outside of a git checkout"
    dirty = record.model_copy(update={"dirty": True})
    assert made_at(dirty).startswith("made at abababa with changes of its own; 3 files")
    row = records_table([record]).iloc[0]
    anchor = run_anchor("embedded", "tiny", record.id)
    assert str(run_link("embedded", "tiny", record.id)).startswith(
        f'<a href="records.html#{anchor}"'
    )
    path = f"{HOST}/blob/main/results/embedded/tiny/{record.id}.json"
    assert row["record"] == f'<a id="{anchor}" href="{path}">{record.id}</a>'
    assert row["commit"].startswith(f'<a href="{HOST}/commit/{"ab" * 20}">made at abababa')
    urls = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Repository"] == HOST
    assert row[["whose", "minutes"]].tolist() == ["embedded, profile tiny", "1.0"]
    assert changed_since("ab" * 20) is None


def _records(**changes: Any) -> list[Record]:
    made = Sweep()
    made.finetune("minilm")
    return [record.model_copy(update=changes) for record in made.records]


def test_what_is_missing_and_how_to_make_it(page: Callable[..., Page], shown: Shown) -> None:
    report = page()
    assert list(report.each(curve_points([]), "figure1", of="curves")) == []
    [data] = shown
    assert data["text/markdown"].startswith("No profile has curves yet; {doc}`records` says")
    table = profiles_table(report.results).set_index("profile")
    assert re.fullmatch(r"0 of \d+", table.loc["embedded", "recorded runs"])
    makes = table["what makes the others"]
    assert makes["embedded"] == "python -m study graph profiles/embedded.yml"
    assert makes["pilot"] == "python -m study graph profiles/pilot.yml --source FOLDER"
