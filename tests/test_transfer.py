"""From SQuAD to Natural Questions (paper section 4.3.1): a pruned model, or its topology alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qaprune_lib as qp
from qaprune_lib.data.natural_questions.stream import NaturalQuestions
from qaprune_lib.models import QuestionAnsweringModel, full_class, pruned_class, weights_digest
from tests.models.tiny import TEXT, assert_agree, logits, tiny_batch, tiny_model
from tests.training import toy_pages
from tests.training.toy import WINDOWS, toy_questions
from tests.training.toy_pages import SIZES, toy_natural_questions

QUICK: dict[str, Any] = {"batch_size": 4, "epochs": 2, "learning_rate": 3e-3}
TRAINING: dict[str, Any] = {**QUICK, **toy_pages.TRAINING}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QAPRUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> NaturalQuestions:
    return toy_natural_questions(tmp_path_factory.mktemp("nq"), 15)


@pytest.fixture(scope="module", params=["bert", "roberta", "mpnet"])
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folders(architecture: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model trained on SQuAD, and the same pruned with gates of SQuAD and retrained."""
    folder = tmp_path_factory.mktemp(architecture)
    squad = toy_questions(12)
    model = qp.finetune(tiny_model(architecture), squad, **QUICK, **WINDOWS)
    scores = qp.scorers.gain(model, squad, **WINDOWS)
    kept = qp.Topology.from_scores(scores, fraction={"attn": 0.5, "ff": 0.4})
    small = qp.retrain(qp.prune(model, kept), squad, teacher=model, **QUICK, **WINDOWS)
    for name, saved in (("full", model), ("small", small)):
        saved.save_pretrained(folder / name)
    kept.save(folder / "topology.json")
    return {name: folder / name for name in ("full", "small", "topology.json")}


def load(folder: Path, **options: Any) -> QuestionAnsweringModel:
    return qp.load_model(folder, device="cpu", **options)


def assert_useful(
    model: QuestionAnsweringModel, examples: NaturalQuestions, folder: Path, kept: qp.Topology
) -> None:
    """It has the topology, was trained, answers, and comes back from its folder."""
    assert qp.Topology.of(model) == kept
    assert np.isfinite(model.training_report.losses).all()
    answers = list(qp.predict_natural_questions(model, examples, progress=False, **SIZES))
    assert len(answers) == 15
    assert any(answer.long for answer in answers)
    model.save_pretrained(folder)
    again = load(folder)
    batch = tiny_batch(model)
    assert_agree(logits(again, batch), logits(model, batch), tolerance=1e-7)
    assert type(again) is type(model)


def test_a_pruned_model_goes_on_with_its_parameters(
    architecture: str, folders: dict[str, Path], examples: NaturalQuestions, tmp_path: Path
) -> None:
    small = load(folders["small"])
    start = load(folders["small"], task="natural_questions")
    assert isinstance(start, pruned_class(architecture, "natural_questions"))
    batch = small.tokenizer(*TEXT, return_tensors="pt")
    with torch.no_grad():
        squad, new = small(**batch), start(**batch)
    for name in ("start_logits", "end_logits"):  # parameters of SQuAD, span layer included
        assert_agree(new[name], squad[name], tolerance=1e-7)
    trained = qp.retrain(start, examples, **TRAINING)
    assert weights_digest(trained) != weights_digest(start)
    assert_useful(trained, examples, tmp_path / "nq", qp.Topology.load(folders["topology.json"]))


def test_the_topology_alone_is_put_on_a_fresh_model(
    architecture: str, folders: dict[str, Path], examples: NaturalQuestions, tmp_path: Path
) -> None:
    fresh = load(folders["full"], task="natural_questions")
    assert isinstance(fresh, full_class(architecture, "natural_questions"))
    teacher = qp.finetune(fresh, examples, **TRAINING)
    for source in (folders["topology.json"], folders["small"] / "topology.json"):
        kept = qp.Topology.load(source)
        small = qp.prune(teacher, kept)
        batch = tiny_batch(teacher)
        with qp.apply_masks(teacher, qp.Masks.from_topology(kept, ("attn", "ff"))):
            masked = logits(teacher, batch)
        assert_agree(logits(small, batch), masked)
    trained = qp.retrain(small, examples, teacher=teacher, **TRAINING)
    assert_useful(trained, examples, tmp_path / "nq", kept)


def test_gates_of_a_part_of_the_data_prune_for_training_on_all(
    folders: dict[str, Path], examples: NaturalQuestions, tmp_path: Path
) -> None:
    model = qp.finetune(load(folders["full"], task="natural_questions"), examples, **TRAINING)
    options = TRAINING | {"learning_rate": 0.5, "epochs": 8}
    part = examples.sample(0.5)
    scores = qp.scorers.l0(model, part, penalty={"attn": 0.3, "ff": 0.05}, **options)
    kept = qp.Topology.from_scores(scores, fraction=0.5)
    small = qp.retrain(qp.prune(model, kept), examples, teacher=model, **TRAINING)
    assert_useful(small, examples, tmp_path / "nq", kept)
