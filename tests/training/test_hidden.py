"""Hidden states are distilled: the distance is the literal one, and training makes it smaller."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import torch

import qaprune_lib as qp
from qaprune_lib.errors import SettingsError
from qaprune_lib.models import ARCHITECTURES, QuestionAnsweringModel, architecture_of
from qaprune_lib.training.hidden import HiddenStates
from tests.models.tiny import random_topology, tiny_batch, tiny_model
from tests.training.toy import WINDOWS, small_bert, toy_questions

QUESTIONS = toy_questions(12)


def pair(architecture: str) -> tuple[QuestionAnsweringModel, QuestionAnsweringModel]:
    """A teacher, and a model that lost slices of every kind."""
    teacher = tiny_model(architecture, trained=True)
    topology = random_topology(qp.Topology.of(teacher).shape, 3)
    return teacher, qp.prune(teacher, topology)


@torch.no_grad()
def distance(
    student: QuestionAnsweringModel,
    teacher: QuestionAnsweringModel,
    batch: dict[str, torch.Tensor],
) -> torch.Tensor:
    hidden = HiddenStates(student, teacher)
    with hidden.watched():
        student(**batch)
        return hidden.distance(batch)


def states(model: QuestionAnsweringModel, batch: dict[str, Any]) -> list[torch.Tensor]:
    """What the layers return: transformers' hidden states, but for a norm behind the last."""
    last: list[torch.Tensor] = []
    path = architecture_of(model.config).final_norm
    with ExitStack() as hooks, torch.no_grad():
        if path is not None:
            norm = model.base_model.get_submodule(path)
            hook = norm.register_forward_pre_hook(lambda _, inputs: last.append(inputs[0]))
            hooks.callback(hook.remove)
        found = list(model(**batch, output_hidden_states=True).hidden_states[1:])
    return [*found[: len(found) - len(last)], *last]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_distance_is_that_of_the_models_own_hidden_states(architecture: str) -> None:
    teacher, student = pair(architecture)
    padded = tiny_batch(teacher, padding=3)
    kept = list(qp.Topology.of(student).kept("emb")[0])
    found = distance(student, teacher, padded)
    for row, share in enumerate(found):
        length = int(padded["attention_mask"][row].sum())
        alone: dict[str, Any] = {
            name: values[row : row + 1, :length] for name, values in padded.items()
        }
        ours, theirs = (states(model, alone) for model in (student, teacher))
        shares = [
            ((a - b[..., kept]) ** 2).sum() / (b[..., kept] ** 2).sum()
            for a, b in zip(ours, theirs, strict=True)
        ]
        assert float(share) == pytest.approx(float(sum(shares) / len(shares)), rel=1e-4)
    assert distance(teacher, teacher, padded).tolist() == [0.0] * len(found)


def test_training_brings_hidden_states_closer_and_leaves_the_teacher() -> None:
    teacher = small_bert()
    student = qp.prune(teacher, random_topology(qp.Topology.of(teacher).shape, 1, emb=False))
    before = {name: weights.clone() for name, weights in teacher.state_dict().items()}
    options = {**WINDOWS, "epochs": 8, "batch_size": 4, "learning_rate": 1e-3, "dropout": False}
    plain, taught = (
        qp.retrain(
            student, QUESTIONS, teacher=teacher, distillation=qp.Distillation(hidden=hidden),
            **options,
        )
        for hidden in (0.0, 10.0)
    )  # fmt: skip
    batch = tiny_batch(teacher)
    far, near, first = (
        float(distance(model, teacher, batch).mean()) for model in (plain, taught, student)
    )
    assert near < 0.5 * min(far, first)
    assert all(torch.equal(before[name], now) for name, now in teacher.state_dict().items())
    assert not any(model._forward_hooks for model in (taught, teacher))


def test_the_teacher_is_the_model_that_was_pruned() -> None:
    student, deeper = small_bert(), small_bert(num_hidden_layers=3)
    distillation = qp.Distillation(hidden=1.0)
    with pytest.raises(SettingsError, match="the teacher has 3 layers"):
        qp.retrain(student, QUESTIONS, teacher=deeper, distillation=distillation, **WINDOWS)
    with pytest.raises(SettingsError, match="driven by logits"):
        qp.scorers.l0(
            student, QUESTIONS, penalty={"attn": 0.1}, teacher=student,
            distillation=distillation, **WINDOWS,
        )  # fmt: skip
