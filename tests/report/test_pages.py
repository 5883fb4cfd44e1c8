"""Report notebooks: kept without outputs, run without torch, and say what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from matplotlib.figure import Figure
from tests.report.synthetic import Sweep, sweep

from qaprune_lib.errors import SettingsError
from study.frames import scored_models
from study.missing import missing_runs, profile_names
from study.pages import (
    each_model,
    models_with,
    show_about,
    show_figure,
    show_missing,
    show_table,
    show_text,
)
from study.records.record import write_record
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "notebooks" / "report"
PAGES = ("table1", "figure1", "figure2", "embeddings", "table2", "figure3", "controls")
ALL_PAGES = (*PAGES, "natural_questions", "audit")


@pytest.mark.parametrize("name", ALL_PAGES)
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
            assert "hide-input" in cell.metadata.tags
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
    shown = [
        output.data["text/markdown"]
        for cell in nbformat.read(out / f"{name}.ipynb", as_version=4).cells
        for output in cell.get("outputs", ())
        if "text/markdown" in output.get("data", {})
    ]
    labels = [line for text in shown for line in text.splitlines() if line.startswith(":name:")]
    assert len(set(labels)) == len(labels)
    order = [text.find("measured") >= 0 for text in shown if text.startswith("```{figure}")]
    assert order == [True, False]
    for text in shown:
        if text.startswith("```{figure} "):
            assert (out / text.split()[1]).is_file()
    assert sorted(path.suffix for path in out.iterdir()) == [
        ".ipynb",
        ".png",
        ".png",
        ".svg",
        ".svg",
    ]
    assert "it lacks" in shown[-1]


def test_each_model_by_itself_and_measured_first() -> None:
    made = [
        sweep(profile="e", large="mpnet"),
        sweep(profile="m", provenance="measured"),
    ]
    models = scored_models([record for one in made for record in one.records])
    found = dict(each_model(models))
    assert list(found) == ["m-squad2-minilm", "e-squad2-minilm", "e-squad2-mpnet"]
    assert sum(map(len, found.values())) == len(models)
    for rows in found.values():
        assert rows[["profile", "provenance", "model"]].drop_duplicates().shape[0] == 1
    pruned = models_with(models, models["kinds"] != "none")
    assert list(dict(each_model(pruned))) == ["m-squad2-minilm", "e-squad2-mpnet"]
    twice = pd.concat([models.assign(finetune="a"), models.assign(finetune="b")])
    assert "m-squad2-minilm-2" in dict(each_model(twice, "finetune"))


def test_what_is_shown(tmp_path: Path) -> None:
    figure = Figure()
    figure.subplots().plot([0, 1], [0, 1])
    bundle = show_figure(figure, tmp_path, "a-figure", "What it\nshows.", 'Rises, "steeply".')
    data = bundle._repr_mimebundle_()
    assert data["text/markdown"] == (
        "```{figure} a-figure.svg\n:name: fig-a-figure\n"
        ':alt: Rises, "steeply".\n:width: 100%\n\nWhat it shows.\n```'
    )
    assert (tmp_path / "a-figure.svg").is_file()
    assert 'alt="Rises, &quot;steeply&quot;."' in data["text/html"]
    table = show_table(pd.DataFrame({"a": ["1"]}), "t", "A caption.").myst
    assert table.startswith("```{table} A caption.\n:name: tab-t\n\n| a |")
    assert show_text("1 < 2").html == "<p>1 &lt; 2</p>"


def test_what_must_be_said_of_the_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    made = [
        Sweep(profile=profile, provenance=profile, data=data)
        for profile in ("measured", "embedded")
        for data in ("squad2", "squad1", "nq")
    ]
    for one in made:
        one.finetune("minilm")
    models = scored_models([record for one in made for record in one.records])
    [box] = show_about(models)
    assert box.myst.startswith("```{admonition} About these numbers\n")
    # of the reconstructed training questions, and of those in NQ's format alone
    assert box.myst.count("**SQuAD 2.0, measured profile.** Dev is official; train is a") == 1
    assert box.myst.count("**NQ-format questions, measured profile.** Neither split is that") == 1
    assert box.myst.count("**") == 4
    assert "<p>SQuAD 2.0, measured profile. Dev is official" in box.html
    assert show_about(models[models["profile"] == "embedded"]) == []
    assert show_about(models.assign(profile="of no file")) == []
    assert show_about(models.assign(data="of no profile")) == []


def test_what_must_be_said_of_a_further_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    made = Sweep(profile="measured", provenance="measured", data="squad1")
    for model in ("minilm", "mpnet-base"):
        made.finetune(model)
    [box] = show_about(scored_models(made.records))
    assert box.myst.count("**MPNet, measured profile.** The base model of all-mpnet-base-v2") == 1
    assert box.myst.count("**") == 2


def test_what_is_missing_and_how_to_make_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert "embedded" in profile_names()
    missing = missing_runs("embedded", [])
    assert {name.partition("/")[0] for name in missing} == {"finetune", "score", "select"}
    text = show_missing([], "curves").myst
    assert "Profile `embedded`, no curves yet" in text
    assert "`python -m study.plan.graph profiles/embedded.yml`" in text
    assert "profiles/measured.yml --source FOLDER`" in text
    assert "drawn from what is there" in show_missing([], "curves", ["embedded"]).myst
    with pytest.raises(SettingsError, match="no such profile"):
        missing_runs("nowhere", [])
