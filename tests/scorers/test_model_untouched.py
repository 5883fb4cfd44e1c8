"""Scorers leave a model as they found it: weights, flags, modes, gradients and hooks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from qaprune_lib.evaluation.predict import predict
from qaprune_lib.models import QuestionAnsweringModel, Topology
from qaprune_lib.pruning.reconstruction import reconstruct
from qaprune_lib.pruning.slicing import prune
from qaprune_lib.scorers import fisher, gain, l0, leave_one_out, random, surgeon
from qaprune_lib.scorers.gradients import gate_gradients
from qaprune_lib.training.trainer import SpanTrainer
from tests.models.tiny import tiny_model
from tests.training.toy import DROPOUT, WINDOWS, toy_questions, toy_windows

QUESTIONS = toy_questions(6)
RUNS: dict[str, Callable[[QuestionAnsweringModel], Any]] = {
    "gain": lambda m: gain(m, QUESTIONS, **WINDOWS),
    "gain at 0": lambda m: gain(m, QUESTIONS, kinds=["attn"], at=0, **WINDOWS),
    "fisher": lambda m: fisher(m, QUESTIONS, **WINDOWS),
    "surgeon": lambda m: surgeon(m, QUESTIONS, **WINDOWS),
    "leave one out": lambda m: leave_one_out(m, QUESTIONS, **WINDOWS),
    "l0": lambda m: l0(
        m, QUESTIONS, penalty={"attn": 0.1}, batch_size=4, max_steps=2, dropout=True, **WINDOWS
    ),
    "interrupted": lambda m: next(gate_gradients(m, toy_windows(m, QUESTIONS), ["ff"])),
}


def state(model: QuestionAnsweringModel) -> tuple[Any, ...]:
    return (
        [weights.requires_grad for weights in model.parameters()],
        [weights.grad for weights in model.parameters()],
        [module.training for module in model.modules()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        ["forward" in vars(module) for module in model.modules()],
        [getattr(module, "p", None) for module in model.modules()],
    )


def test_an_error_in_training_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("bert", **DROPOUT).train()
    before = state(model)
    monkeypatch.setattr(SpanTrainer, "run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        RUNS["l0"](model)
    assert state(model) == before


@pytest.mark.slow
def test_one_model_is_scored_mended_and_asked_from_several_threads() -> None:
    model = tiny_model("bert", num_hidden_layers=2, intermediate_size=16)
    half = prune(model, Topology.from_scores(random(model, kinds=["ff"]), fraction=0.5))
    work: list[Callable[[], Any]] = [
        lambda: gain(model, QUESTIONS, **WINDOWS).get("ff").tolist(),
        lambda: fisher(model, QUESTIONS, **WINDOWS).get("attn").tolist(),
        lambda: surgeon(model, QUESTIONS, **WINDOWS).get("attn").tolist(),
        lambda: leave_one_out(model, QUESTIONS, **WINDOWS).get("attn").tolist(),
        lambda: reconstruct(half, model, QUESTIONS, **WINDOWS)[1],
        lambda: [answer.start for answer in predict(model, QUESTIONS, progress=False, **WINDOWS)],
    ]
    expected = [one() for one in work]
    before = state(model)
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            assert list(pool.map(lambda one: one(), work)) == expected
    assert state(model) == before


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
