"""The runner of stage notebooks, and what plain papermill says of the same mistakes."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest

from qaprune_lib.errors import SettingsError
from study.plan.parameters import STAGES
from study.records.record import read_records
from study.stages.run import check, main, parameter_names, run_notebook, value_of
from study.stages.side_by_side import execute

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
FINETUNE, SCORE, PRUNE = (
    NOTEBOOKS / f"{STAGES[stage].notebook}.ipynb" for stage in ("finetune", "score", "prune")
)
MISSING = "finetuned/none-0123456789"


def write_notebook(path: Path, *cells: str, parameters: str | None = "steps = 3") -> Path:
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    if parameters is not None:
        first = nbformat.v4.new_code_cell(parameters)
        first.metadata["tags"] = ["parameters"]
        notebook.cells.append(first)
    notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(notebook, path)
    return path


@pytest.mark.parametrize(
    ("notebook", "arguments", "message"),
    [
        (FINETUNE, ["-p", "learning_rat", "0.1"], "'learning_rat'; did you mean 'learning_rate'?"),
        (FINETUNE, ["-p", "sed", "1"], "'sed'; did you mean 'seed'?"),
        (FINETUNE, ["-p", "zzz", "1"], "'zzz'; it takes name, profile, provenance, "),
        (FINETUNE, ["-p", "seed", "one"], "seed: Input should be a valid integer (seed = 'one')"),
        (FINETUNE, ["-p", "seed", '"3"'], "seed: Input should be a valid integer (seed = '3')"),
        (FINETUNE, ["-p", "seed", "3.5"], "seed: Input should be a valid integer"),
        (FINETUNE, ["--parameters", '{"learning_rate": "0.1"}'], "(learning_rate = '0.1')"),
        (SCORE, ["-p", "penalty_attn", "nan"], "penalty_attn: Input should be a finite number"),
        (SCORE, ["-p", "penalty_attn", "inf"], "penalty_attn: Input should be a finite number"),
        (SCORE, ["--parameters", '{"penalty_attn": NaN}'], "penalty_attn: Input should be a fini"),
        (SCORE, ["-p", "penalty_attn", "-1"], "penalty_attn: Input should be greater than or eq"),
        (SCORE, ["-p", "kinds", '["heads"]'], "kinds.0: Input should be 'attn', 'ff' or 'emb'"),
        (SCORE, ["-p", "kinds", '["ff"]'], "L0 needs a penalty for each of its kinds"),
        (FINETUNE, ["-p", "version", "1.0"], "version: Input should be '1.1' or '2.0'"),
        (FINETUNE, ["-p", "name", "../x"], "name: String should match pattern"),
        (FINETUNE, ["-p", "profile", "$(touch x)"], "profile: String should match pattern"),
        (FINETUNE, ["-p", "data", "../x"], "data: String should match pattern"),
        (FINETUNE, ["--parameters", "[1]"], "--parameters is not a JSON object: [1]"),
        (FINETUNE, ["--parameters", "{"], "--parameters is not JSON: "),
        (Path("none.ipynb"), [], "none.ipynb: cannot be read: No such file or directory"),
    ],
)
def test_a_mistake_is_named_before_anything_is_started(
    notebook: Path, arguments: list[str], message: str, tmp_path: Path, capsys: Any
) -> None:
    output = tmp_path / "out" / "executed.ipynb"
    assert main([str(notebook), str(output), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not output.parent.exists()


@pytest.mark.parametrize("text", ["{", "[]", "{}", ""])
def test_what_is_no_notebook_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text(text)
    with pytest.raises(SettingsError, match=f"{path}: not a notebook: "):
        check(path, {})


def test_a_notebook_without_parameters_is_refused(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "n.ipynb", "1 + 1", parameters=None)
    with pytest.raises(SettingsError, match="has no cell tagged 'parameters'"):
        run_notebook(path, tmp_path / "out.ipynb", {})


@pytest.mark.parametrize("given", ["1.1", '"1.1"'])
def test_a_version_may_be_given_as_a_number(given: str) -> None:
    check(FINETUNE, {"version": value_of(given)})


def test_names_are_those_that_the_parameters_cell_assigns(tmp_path: Path) -> None:
    cell = 'a = 1  # b\n# c = 3\nd = [\n    "e = 4",\n]'
    assert parameter_names(write_notebook(tmp_path / "n.ipynb", parameters=cell)) == ["a", "d"]
    for stage in STAGES.values():
        names = parameter_names(NOTEBOOKS / f"{stage.notebook}.ipynb")
        assert names == list(stage.model_fields)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3e-4", 3e-4),
        ("None", None),
        ("null", None),
        ("True", True),
        ("false", False),
        ('["attn", "ff"]', ["attn", "ff"]),
        ('"3"', "3"),
        ("minilm", "minilm"),
        ("1.1.1", "1.1.1"),
    ],
)
def test_values_of_the_command_line(text: str, value: Any) -> None:
    found = value_of(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.slow
def test_a_failed_cell_leaves_the_executed_notebook(tmp_path: Path, capsys: Any) -> None:
    cells = (
        "print('got', steps)",
        "def divide(n):\n    return n / 0\n\ndivide(steps)",
        "never = 1",
    )
    notebook = write_notebook(tmp_path / "n.ipynb", *cells)
    output = tmp_path / "new" / "executed.ipynb"
    assert main([str(notebook), str(output), "-p", "steps", "5"]) == 1
    error = capsys.readouterr().err
    assert re.search(
        rf"^error: {notebook}, cell \d: ZeroDivisionError: division by zero$", error, re.MULTILINE
    )
    assert f"the executed notebook with the traceback is {output}\n" in error
    executed = {cell.source: cell for cell in nbformat.read(output, as_version=4).cells}
    [printed] = executed[cells[0]].outputs
    assert printed.text == "got 5\n"
    [failure] = executed[cells[1]].outputs
    assert failure.ename == "ZeroDivisionError"
    assert any("divide" in line for line in failure.traceback)
    assert executed[cells[2]].execution_count is None
    assert nbformat.read(notebook, as_version=4).cells[1].outputs == []


@pytest.mark.slow
def test_a_whole_run(tmp_path: Path) -> None:
    file = tmp_path / "written.json"
    cell = "import json, os\n\njson.dump([steps, os.getcwd()], open(file, 'w'))"
    notebook = write_notebook(
        tmp_path / "n.ipynb", cell, parameters=f"steps = 3\nfile = {str(file)!r}"
    )
    assert main([str(notebook), str(tmp_path / "out.ipynb"), "-p", "steps", "[1, null]"]) == 0
    assert json.loads(file.read_text()) == [[1, None], os.getcwd()]


@pytest.mark.slow
def test_a_missing_run_is_named_and_the_notebook_kept(tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "executed.ipynb"
    values = {"model": f"run:{MISSING}", "results": str(tmp_path), "runs": str(tmp_path)}
    assert main([str(PRUNE), str(output), "--parameters", json.dumps(values)]) == 1
    error = capsys.readouterr().err
    folder = tmp_path / "embedded" / "smoke" / MISSING
    assert f"RecordError: {folder}: the run that stage prune builds on is not there" in error
    assert errors(output) == ["RecordError"]


@pytest.mark.slow
def test_plain_papermill_fails_in_the_first_cells(tmp_path: Path) -> None:
    output = tmp_path / "executed.ipynb"
    wrong = ["-p", "model", "no/such/model"]
    command = [sys.executable, "-m", "papermill", str(PRUNE), str(output), *wrong]
    places = ["-p", "results", str(tmp_path), "-p", "runs", str(tmp_path)]
    offline = {"HF_HUB_OFFLINE": "1", "QAPRUNE_CACHE": str(tmp_path / "cache")}
    result = subprocess.run(
        [*command, *places, "--no-progress-bar"],
        capture_output=True,
        text=True,
        cwd=NOTEBOOKS.parent,
        env={**os.environ, **offline},
    )
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ModelError: ")
    assert "no/such/model" in last
    assert errors(output) == ["ModelError"]
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("notebook", "name", "value", "message"),
    [
        (FINETUNE, "seed", "one", "seed: Input should be a valid integer"),
        (SCORE, "penalty_attn", math.nan, "penalty_attn: Input should be a finite"),
    ],
)
def test_a_notebook_refuses_it_by_itself(
    tmp_path: Path, notebook: Path, name: str, value: Any, message: str
) -> None:
    places = {"results": str(tmp_path), "runs": str(tmp_path)}
    with pytest.raises(SettingsError, match=message):
        execute(notebook, {name: value, **places})
    assert not list(tmp_path.iterdir())


def errors(executed: Path) -> list[str]:
    """The names of the errors in an executed notebook."""
    cells = nbformat.read(executed, as_version=4).cells
    outputs = [out for cell in cells if cell.cell_type == "code" for out in cell.outputs]
    return [out.ename for out in outputs if out.output_type == "error"]


@pytest.mark.slow
def test_a_run_that_is_asked_to_end_goes_on_from_there(tmp_path: Path) -> None:
    few = {"train_questions": 60, "heldout_questions": 2, "dev_questions": 2}
    values = {"model": "embedded-small", "max_length": 96, "doc_stride": 48, "epochs": 9, **few}
    places = {"results": f"{tmp_path}/r", "runs": f"{tmp_path}/m"}
    values |= {"max_steps": 30, "batch_size": 4, **places}
    command = [sys.executable, "-m", "study", "run", str(FINETUNE), str(tmp_path / "out.ipynb")]
    command += ["--parameters", json.dumps(values)]
    environment = {**os.environ, "PYTHONPATH": str(NOTEBOOKS.parent), "OMP_NUM_THREADS": "1"}
    started: dict[str, Any] = {"cwd": NOTEBOOKS.parent, "env": environment, "text": True}
    with subprocess.Popen([*command], stderr=subprocess.PIPE, **started) as first:
        deadline = time.monotonic() + 200
        while not list(tmp_path.rglob("checkpoints/run.json")) and first.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        first.terminate()
        _, said = first.communicate(timeout=120)
    assert first.returncode not in (0, None), said
    assert "its kernel was ended: the same call goes on" in said
    [kept] = tmp_path.rglob("checkpoint-*")
    assert 0 < int(kept.name.rpartition("-")[2]) < 30
    assert not list(tmp_path.glob("r/**/*.json"))
    done = subprocess.run(command, capture_output=True, **started)
    assert done.returncode == 0, done.stderr
    [record] = read_records(tmp_path / "r")
    training: Any = record.metrics["training"]
    assert training["steps"] == 30
    assert f"{kept.name.rpartition('-')[2]}/30" in done.stderr  # the bar starts there
    assert not list(tmp_path.rglob("checkpoint-*"))
