from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any

import nbformat
import pytest

from qaprune_lib.errors import SettingsError
from study.plan.parameters import (
    STAGES,
    DecodeTime,
    Finetune,
    Retrain,
    ScoreGates,
    StageParameters,
    is_run_id,
)

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_a_notebook_has_the_parameters_of_its_stage(stage: type[StageParameters]) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{stage.notebook}.ipynb", as_version=4)
    [cell] = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    values: dict[str, Any] = {}
    for node in ast.parse(cell.source).body:
        assert isinstance(node, ast.Assign)
        values[ast.unparse(node.targets[0])] = ast.literal_eval(node.value)
    assert values == stage().model_dump()


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]


def test_a_place_is_no_part_of_the_identity() -> None:
    here = Finetune(source="/a", results="/b", runs="/c", profile="d")
    assert here.identity() == Finetune().identity()
    assert not {"source", "results", "runs", "profile", "provenance"} & set(here.identity())


def test_the_precision_is_named_where_it_is_not_the_usual_one() -> None:
    assert "compute_dtype" not in Finetune().identity()
    assert Finetune(compute_dtype="bfloat16").identity()["compute_dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("stage", "values", "message"),
    [
        (Finetune, {"compute_dtype": "float16"}, "compute_dtype: .*'float32' or 'bfloat16'"),
        (Finetune, {"learning_rate": "0.1"}, "learning_rate: .*valid number.*'0.1'"),
        (Finetune, {"learning_rate": math.nan}, "learning_rate: .*finite number"),
        (Finetune, {"seed": True}, "seed: .*valid integer"),
        (Finetune, {"epochs": 0}, "epochs: .*greater than 0"),
        (Finetune, {"epochs": 1.5}, "epochs: .*valid integer"),
        (Finetune, {"max_step": 3}, "no parameter 'max_step'; did you mean 'max_steps'"),
        (Finetune, {"xyz": 3}, "no parameter 'xyz'; it takes .*learning_rate"),
        (ScoreGates, {"penalty_attn": math.nan}, "penalty_attn: .*finite number"),
        (ScoreGates, {"penalty_attn": -1.0}, "penalty_attn: .*greater than or equal to 0"),
        (ScoreGates, {"kinds": ["heads"]}, "kinds.0: .*'attn', 'ff' or 'emb'.*'heads'"),
        (ScoreGates, {"kinds": ["ff"]}, "kinds are ff, penalties are given for attn"),
        (ScoreGates, {"kinds": []}, "kinds is empty"),
        (ScoreGates, {"scorer": "l1"}, "scorer: .*'l1'"),
        (
            Finetune,
            {"task": "natural_questions", "train_files": ["t"], "dev_files": ["a", "b/dev.jsonl"]},
            "two dev sets would be called 'dev'",
        ),
        (Retrain, {"objective": "distillation"}, "distillation needs a teacher"),
        (Retrain, {"teacher": "embedded"}, "cross-entropy takes none"),
    ],
)
def test_bad_values_are_named(
    stage: type[StageParameters], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        stage.checked(values)


def test_read_picks_its_own_names_and_checks_them() -> None:
    assert Finetune.read({"seed": 3, "np": object()}).seed == 3
    with pytest.raises(SettingsError, match="seed"):
        Finetune.read({"seed": "3"})


def test_dev_sets_are_named_by_their_files() -> None:
    files = ["dev.jsonl.gz", "dev/nq-dev-00.jsonl.gz", "v1.0-a.jsonl", "v1.0-b.jsonl.gz"]
    values = {"task": "natural_questions", "train_files": ["t.jsonl"], "dev_files": files}
    assert Finetune.checked(values).other_dev_sets == ["nq-dev-00", "v1.0-a", "v1.0-b"]
    assert Finetune.checked({}).other_dev_sets == []


def test_upstream_runs_are_told_from_models() -> None:
    run = "finetune/squad2-minilm-0-0123456789"
    assert is_run_id(run)
    assert not any(map(is_run_id, ("minilm", "org/model", "finetune", "/tmp/finetune/x")))
    assert DecodeTime(models=["minilm", run]).upstream() == [run]
