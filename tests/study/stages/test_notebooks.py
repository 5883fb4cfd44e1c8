"""The stages' notebooks: their parameters are those of the classes, and they hold no outputs."""

from __future__ import annotations

import io
import shutil
import tokenize
from pathlib import Path
from typing import Any

import nbformat
import pytest

from study.plan.parameters import STAGES, StageParameters
from study.stages.notebooks import main, parameter_cell, write_cells

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_a_cell_gives_each_parameter_its_default_and_says_what_it_means(
    stage: type[StageParameters],
) -> None:
    source = parameter_cell(stage)
    values: dict[str, Any] = {}
    exec(source, values)
    del values["__builtins__"]
    assert values == stage().model_dump()
    assert stage.read(values) == stage()
    comments = {
        token.line.split(" = ")[0]: token.string.removeprefix("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and " = " in token.line
    }
    assert comments == {name: field.description for name, field in stage.model_fields.items()}


def test_the_committed_notebooks_have_these_cells(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "notebooks"
    shutil.copytree(NOTEBOOKS, folder)
    assert write_cells(folder) == []
    changed = folder / "03_prune.ipynb"
    whole = changed.read_text()
    changed.write_text(whole.replace("fraction = None", "share = 0.5"))
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out == f"{changed}\n"
    assert changed.read_text() == whole


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
