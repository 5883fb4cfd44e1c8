"""Stages on a model that is pruned already, and scores of more than they are asked to cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qaprune_lib.models import Topology, load_model, shape_of
from qaprune_lib.pruning import prune
from study.plan.parameters import Prune, ScoreGates, StageParameters
from study.records.record import Record, read_records
from study.stages.side_by_side import execute
from tests.models.tiny import tiny_model

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
FEW: dict[str, Any] = {"train_questions": 8, "heldout_questions": 3, "dev_questions": 4}
WINDOWS = {"max_length": 480, "doc_stride": 360}  # of letters
SCORE = {"questions": 4, "curve_questions": 3, "max_steps": 1, "batch_size": 2}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("QAPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    model = tiny_model("bert", max_position_embeddings=520)
    model.save_pretrained("whole")
    keep = {"attn": np.arange(12).reshape(3, 4) % 3 > 0}
    prune(model, Topology.from_masks(shape_of(model.config), keep)).save_pretrained("pruned")
    return {**FEW, **WINDOWS, "results": "results", "runs": "runs", "origin": "embedded"}


def run(stage: type[StageParameters], place: dict[str, Any], **values: Any) -> tuple[str, Record]:
    """Execute a stage's notebook in this process; how others name the run, and its record."""
    parameters = stage.checked({**place, "name": f"tiny/{stage.stage}", **values})
    notebook = NOTEBOOKS / f"{parameters.notebook}.ipynb"
    execute(notebook, {**parameters.identity(), **parameters.place()})
    found = {record.id: record for record in read_records(Path("results"))}
    return parameters.reference, found[parameters.id]


@pytest.mark.parametrize("scorer", ["l0", "random"])
def test_gates_of_a_pruned_model_end_in_a_record(scorer: str, place: dict[str, Any]) -> None:
    _, record = run(
        ScoreGates, place, model="pruned", scorer=scorer, kinds=["attn"], penalty_attn=0.1,
        fractions=[0.25, 0.6], **SCORE,
    )  # fmt: skip
    metrics: Any = record.metrics
    gone = [[value is None for value in layer] for layer in metrics["scores"]["attn"]]
    assert np.array_equal(gone, np.arange(12).reshape(3, 4) % 3 == 0)
    removed = [point["removed"] for point in metrics["curves"][0]["points"]]
    assert removed[:2] == pytest.approx([100 * 4 / 12, 100 * 7 / 12])


@pytest.mark.parametrize(("kind", "model"), [("ff", "whole"), ("attn", "pruned")])
def test_what_is_not_named_is_left_alone(kind: str, model: str, place: dict[str, Any]) -> None:
    """Scores of both kinds, of which one is named."""
    both, _ = run(
        ScoreGates, place, model=model, scorer="random", kinds=["attn", "ff"], fractions=[0.5],
        **SCORE,
    )  # fmt: skip
    reference, record = run(Prune, place, model=model, fraction=0.5, **{kind: both})
    before = Topology.of(load_model(model, device="cpu"))
    folder = Path("runs", "embedded", record.profile, reference.removeprefix("run:"), "model")
    after = Topology.of(load_model(folder, device="cpu"))
    other = {"attn": "ff", "ff": "attn"}[kind]
    assert after.kept(other) == before.kept(other)
    assert after.removed(kind) == 50
    metrics: Any = record.metrics
    for name in ("attn", "ff"):
        assert metrics["kept"][name] == list(after.counts(name))
        assert metrics["removed"][name] == pytest.approx(after.removed(name))
