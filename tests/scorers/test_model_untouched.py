"""Scorers leave a model as they found it: weights, flags, modes, gradients and hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from qaprune_lib.models import QuestionAnsweringModel
from qaprune_lib.scorers import fisher, gain, l0, leave_one_out
from qaprune_lib.scorers.gradients import gate_gradients
from qaprune_lib.training.trainer import SpanTrainer
from tests.models.tiny import tiny_model
from tests.training.toy import DROPOUT, WINDOWS, toy_questions, toy_windows

QUESTIONS = toy_questions(6)
RUNS: dict[str, Callable[[QuestionAnsweringModel], Any]] = {
    "gain": lambda m: gain(m, QUESTIONS, **WINDOWS),
    "gain at 0": lambda m: gain(m, QUESTIONS, kinds=["attn"], at=0, **WINDOWS),
    "fisher": lambda m: fisher(m, QUESTIONS, **WINDOWS),
    "leave one out": lambda m: leave_one_out(m, QUESTIONS, **WINDOWS),
    "l0": lambda m: l0(
        m, QUESTIONS, penalty={"attn": 0.1}, batch_size=4, max_steps=2, dropout=True, **WINDOWS
    ),
    "interrupted": lambda m: next(gate_gradients(m, toy_windows(m, QUESTIONS), ["ff"])),
}


def test_l0_gives_the_model_back_where_it_was_also_after_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model("bert")
    moves: list[torch.device] = []
    monkeypatch.setattr(model, "to", lambda device: moves.append(device))
    monkeypatch.setattr(SpanTrainer, "run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        l0(model, QUESTIONS, penalty={"attn": 0.1}, batch_size=4, **WINDOWS)
    assert moves == [model.device, model.device]  # to where the gates are trained, and back
    assert not model.training


def state(model: QuestionAnsweringModel) -> tuple[Any, ...]:
    return (
        [weights.requires_grad for weights in model.parameters()],
        [weights.grad for weights in model.parameters()],
        [module.training for module in model.modules()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        ["forward" in vars(module) for module in model.modules()],
        [getattr(module, "p", None) for module in model.modules()],
    )


@pytest.mark.parametrize("architecture", ["bert", "mpnet"])
@pytest.mark.parametrize("name", RUNS)
def test_a_scorer_leaves_the_model_as_it_was(name: str, architecture: str) -> None:
    sizes = {"num_hidden_layers": 2, "intermediate_size": 16, **DROPOUT}
    model = tiny_model(architecture, **sizes).train()
    model.base_model.embeddings.eval()
    model.qa_outputs.bias.requires_grad_(False)
    before, weights = state(model), {n: w.clone() for n, w in model.state_dict().items()}
    RUNS[name](model)
    assert state(model) == before
    assert all(torch.equal(model.state_dict()[n], w) for n, w in weights.items())
