"""Training on Natural Questions, and scoring gates with them, against single windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from qaprune_lib.data.natural_questions.example import AnswerType
from qaprune_lib.data.natural_questions.stream import NaturalQuestions
from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import DataError, ModelError, QapruneWarning, SettingsError
from qaprune_lib.gates import Masks, apply_masks
from qaprune_lib.models import QuestionAnsweringModel, Topology, shape_of, weights_digest
from qaprune_lib.pruning import prune
from qaprune_lib.scorers import fisher, gain, l0, leave_one_out, surgeon
from qaprune_lib.training import Distillation, finetune, retrain
from qaprune_lib.training.teacher import with_teacher_logits
from tests.models.tiny import random_topology
from tests.training.toy import WINDOWS, small_bert, toy_questions
from tests.training.toy_pages import (
    SIZES,
    TRAINING,
    literal_loss,
    single_pages,
    small_reader,
    toy_features,
    toy_natural_questions,
)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> NaturalQuestions:
    return toy_natural_questions(tmp_path_factory.mktemp("nq"))


def literal_mean(model: QuestionAnsweringModel, features: Any) -> float:
    with torch.no_grad():
        losses = [literal_loss(model(**x), y) for x, y in single_pages(model, features)]
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet"])
def test_the_loss_is_the_mean_of_start_end_and_answer_type(
    architecture: str, examples: NaturalQuestions
) -> None:
    model = small_reader(architecture)
    features = toy_features(model, examples)
    assert set(features["answer_type"]) == set(AnswerType)
    found = finetune(
        model, examples, batch_size=len(features), dropout=False, max_steps=1, **TRAINING
    )
    assert found.training_report.losses[0] == pytest.approx(literal_mean(model, features), rel=1e-5)


@pytest.mark.slow
def test_training_learns_all_three(examples: NaturalQuestions) -> None:
    model = small_reader()
    settings: dict[str, Any] = {"batch_size": 8, "epochs": 25, "learning_rate": 5e-3, **TRAINING}
    trained = finetune(model, examples, **settings)
    features = toy_features(model, examples)
    assert literal_mean(trained, features) < 0.3 * literal_mean(model, features)
    windows = list(single_pages(trained, features))
    right = np.zeros(3)
    for inputs, labels in windows:
        with torch.no_grad():
            logits = list(trained(**inputs).values())
        right += [int(x[0].argmax()) == y for x, y in zip(logits, labels, strict=True)]
    assert (right > 0.8 * len(windows)).all()
    assert weights_digest(finetune(model, examples, **settings)) == weights_digest(trained)


def test_null_windows_are_drawn_once_for_all_runs(examples: NaturalQuestions) -> None:
    model = small_reader()
    default = toy_features(model, examples, null_rate=0.02)
    for rate in (None, 0.02):
        found = gain(model, examples, windows=Windows(32, 12, null_rate=rate))
        assert found.settings["windows"] == len(default)
    every = gain(model, examples, windows=Windows(32, 12, null_rate=1.0))
    assert every.settings["windows"] > len(default)


def literal_gradients(model: QuestionAnsweringModel, kind: str, features: Any) -> np.ndarray:
    gradients = []
    for inputs, labels in single_pages(model, features):
        gate = torch.ones(shape_of(model.config).gates(kind), requires_grad=True)
        with apply_masks(model, Masks(**{kind: gate})):
            loss = literal_loss(model(**inputs), labels)
        gradients.append(torch.autograd.grad(loss, gate)[0].numpy())
    return np.stack(gradients).astype(np.float64)


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_gain_and_fisher_equal_a_loop_over_single_windows(
    architecture: str, examples: NaturalQuestions
) -> None:
    model = small_reader(architecture)
    features = toy_features(model, examples)
    kinds = ["attn", "ff", "emb"]
    gains, fishers = (f(model, examples, kinds=kinds, **TRAINING) for f in (gain, fisher))
    for kind in kinds:
        expected = literal_gradients(model, kind, features)
        np.testing.assert_allclose(gains.get(kind), np.abs(expected).mean(0), rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(fishers.get(kind), (expected**2).sum(0), rtol=1e-3, atol=1e-6)
    assert gains.data_digest == examples.digest()


def literal_kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    p, q = (x[0].double().log_softmax(-1) for x in (teacher, student))
    return (p.exp() * (p - q)).sum()


def test_distillation_is_the_mean_divergence_of_three(examples: NaturalQuestions) -> None:
    model, teacher = small_reader(), small_reader(seed=1)
    features = toy_features(model, examples)
    settings = {"batch_size": len(features), "dropout": False, "max_steps": 1, **TRAINING}
    mixed = Distillation(weight=0.25)
    found = [
        retrain(model, examples, teacher=teacher, distillation=d, **settings) for d in (None, mixed)
    ]
    divergences, losses = [], []
    for inputs, labels in single_pages(model, features):
        with torch.no_grad():
            ours, theirs = model(**inputs), teacher(**inputs)
        parts = [literal_kl(ours[name], theirs[name]) for name in ours]
        assert len(parts) == 3
        divergences.append(float(torch.stack(parts).mean()))
        losses.append(float(literal_loss(ours, labels)))
    kl, cross_entropy = np.mean(divergences), np.mean(losses)
    expected = [kl, 0.25 * kl + 0.75 * cross_entropy]
    assert [r.training_report.losses[0] for r in found] == pytest.approx(expected, rel=1e-5)
    itself = retrain(model, examples, teacher=model, **settings)
    assert itself.training_report.losses[0] == 0


def test_teacher_logits_are_read_back(examples: NaturalQuestions, tmp_path: Path) -> None:
    teacher = small_reader()
    features = toy_features(teacher, examples)

    def taught() -> Dataset:
        options: dict[str, Any] = {"cache_dir": tmp_path, "progress": False}
        return with_teacher_logits(features, examples, teacher.tokenizer, teacher, **options)

    found = taught()
    for row, (inputs, _) in zip(found, single_pages(teacher, features), strict=True):
        with torch.no_grad():
            outputs = teacher(**inputs)
        for name, logits in outputs.items():
            np.testing.assert_allclose(row[f"teacher_{name}"], logits[0], atol=1e-5)
    (folder,) = (path for path in (tmp_path / "teacher").iterdir() if path.is_dir())
    names = ["answer_type.npy", "digests.json", "end.npy", "start.npy"]
    assert sorted(path.name for path in folder.iterdir()) == names
    calls: list[int] = []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    again = taught()
    assert again.to_list() == found.to_list()
    assert not calls
    (folder / "answer_type.npy").unlink()
    taught()
    assert calls


@pytest.mark.parametrize("distilled", [False, True])
def test_gates_are_trained_on_natural_questions(
    distilled: bool, examples: NaturalQuestions
) -> None:
    model = small_reader()
    digest = weights_digest(model)
    settings: dict[str, Any] = {
        "batch_size": 8,
        "epochs": 12,
        "learning_rate": 0.3,
        "teacher": model if distilled else None,
        **TRAINING,
    }
    pressed = l0(model, examples, penalty={"attn": 1.0, "ff": 1.0}, **settings)
    free = l0(model, examples, penalty={"attn": 0.0, "ff": 0.0}, **settings)
    for kind in ("attn", "ff"):
        assert (pressed.get(kind) < 0).all()
        assert (free.get(kind) > 0).any()
    assert weights_digest(model) == digest
    assert pressed.data_digest == examples.digest()
    assert pressed.settings["windows"] == asdict(TRAINING["windows"])


def test_a_pruned_model_is_trained_further(examples: NaturalQuestions) -> None:
    model = small_reader()
    small = prune(model, random_topology(shape_of(model.config), seed=4))
    for teacher in (None, model):
        trained = retrain(small, examples, teacher=teacher, batch_size=8, **TRAINING)
        assert Topology.of(trained) == Topology.of(small)
        assert type(trained) is type(small)
        assert weights_digest(trained) != weights_digest(small)


def test_a_killed_run_resumes(examples: NaturalQuestions, tmp_path: Path) -> None:
    model = small_reader()
    settings = {"batch_size": 4, "checkpoint_steps": 2, "epochs": 2, **TRAINING}
    whole = finetune(model, examples, **settings)
    finetune(model, examples, folder=tmp_path, **settings)
    newest = max(tmp_path.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    (newest / "digests.json").unlink()  # as if it had been killed while it wrote it
    with pytest.warns(QapruneWarning, match="passed over"):
        resumed = finetune(model, examples, folder=tmp_path, **settings)
    assert weights_digest(resumed) == weights_digest(whole)
    with pytest.raises(SettingsError, match="another run"):
        finetune(model, examples, folder=tmp_path, **(settings | SIZES))
    with pytest.raises(SettingsError, match="another run"):
        finetune(model, examples.sample(0.9), folder=tmp_path, **settings)


CALLS: dict[str, Callable[..., Any]] = {
    "finetune": finetune,
    "retrain": retrain,
    "gain": gain,
    "fisher": fisher,
    "surgeon": surgeon,
    "l0": lambda *arguments, **options: l0(*arguments, penalty={"attn": 0.1}, **options),
}


@pytest.mark.parametrize("name", CALLS)
def test_model_and_data_of_different_tasks(name: str, examples: NaturalQuestions) -> None:
    call = CALLS[name]
    with pytest.raises(ModelError, match=r"one for 'squad'.* for 'natural_questions': load it"):
        call(small_bert(), examples, **SIZES)
    with pytest.raises(ModelError, match="is one for 'natural_questions'"):
        call(small_reader(), toy_questions(4), **WINDOWS)
    with pytest.raises(SettingsError, match="is for Natural Questions alone"):
        call(small_bert(), toy_questions(4), **TRAINING)
    kinds = ({"train": toy_questions(4)}, "dict.*'train'"), ("squad", "the name 'squad'")
    for data, shown in kinds:
        with pytest.raises(DataError, match=f"{shown}.* is no set of questions"):
            call(small_bert(), data)


def test_a_teacher_for_another_task(examples: NaturalQuestions) -> None:
    with pytest.raises(ModelError, match="teacher is one for 'squad'"):
        retrain(small_reader(), examples, teacher=small_bert(), **TRAINING)


def test_leave_one_out_is_for_squad(examples: NaturalQuestions) -> None:
    with pytest.raises(DataError, match="leave-one-out"):
        leave_one_out(small_reader(), examples)
