"""L0: planted useless gates, the two ends of λ, and every named reading of the method."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from qaprune_lib.gates import Masks, apply_masks
from qaprune_lib.models import Encoder, QuestionAnsweringModel, Topology, shape_of
from qaprune_lib.pruning import prune
from qaprune_lib.scorers import GateScores, GateSettings, l0
from qaprune_lib.scorers.l0 import GatedModel, GateTrainer
from qaprune_lib.training import Distillation, TrainingSettings
from qaprune_lib.training.trainer import TrainingReport
from tests.models.tiny import random_topology
from tests.training.toy import (
    DROPOUT,
    WINDOWS,
    answered_by,
    single_windows,
    small_bert,
    toy_questions,
    toy_windows,
)

QUESTIONS = toy_questions(24, seed=1)


def run(model: QuestionAnsweringModel, penalty: dict[str, float], **changes: Any) -> GateScores:
    settings = {"batch_size": 12, "epochs": 100, "max_steps": 100, "learning_rate": 0.2}
    return l0(model, QUESTIONS, penalty=penalty, **WINDOWS, **{**settings, **changes})


def planted(seed: int) -> tuple[QuestionAnsweringModel, dict[str, np.ndarray]]:
    """A model in which half of the heads and a quarter of the activations reach the output.

    The columns that the others would go through are zero; what is useful matters much.
    """
    model = small_bert(seed=seed)
    encoder, rng = Encoder(model), np.random.default_rng(seed)
    useful = {}
    with torch.no_grad():
        for kind, name, n_useful in (("attn", "attention_output", 2), ("ff", "output", 4)):
            n_layers, n_gates = encoder.shape.gates(kind)
            rows = np.tile(np.arange(n_gates) < n_useful, (n_layers, 1))
            useful[kind] = rng.permuted(rows, axis=1)
            for layer in range(n_layers):
                weight: Any = encoder.module(layer, name).weight
                columns = torch.from_numpy(useful[kind][layer])
                weight *= 3 * columns.repeat_interleave(weight.shape[1] // n_gates)
        for of_layer in encoder.layers:
            bias: Any = of_layer.get_submodule(encoder.architecture.per_activation[0]).bias
            bias.fill_(1.0)  # GeLU lets through
        weight = model.qa_outputs.weight
        weight *= 6
    return model, useful


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exactly_the_planted_useless_gates_go(seed: int) -> None:
    model, useful = planted(seed)
    if seed == 0:  # one run per kind, as in the paper
        attn, ff = (run(model, {kind: 1e-3}, teacher=model) for kind in ("attn", "ff"))
        assert (attn.kinds(), ff.kinds()) == (["attn"], ["ff"])
        scores = attn.combine(ff)
    else:
        scores = run(model, {"attn": 2e-3, "ff": 5e-4}, teacher=model)
    for kind in ("attn", "ff"):
        assert np.array_equal(scores.get(kind) > 0, useful[kind])
    topology = Topology.from_scores(scores, threshold=0.0)
    assert sum(map(len, topology.kept("attn"))) == 4
    assert sum(map(len, topology.kept("ff"))) == 8


def mean_cross_entropy(model: QuestionAnsweringModel, questions: Any, masks: Masks) -> float:
    losses = []
    with torch.no_grad(), apply_masks(model, masks):
        for inputs, start, end in single_windows(model, toy_windows(model, questions)):
            outputs = model(**inputs)
            pairs = ((outputs.start_logits, start), (outputs.end_logits, end))
            losses += [float(functional.cross_entropy(x, torch.tensor([y]))) for x, y in pairs]
    return float(np.mean(losses))


@pytest.mark.slow
def test_with_cross_entropy_no_useless_gate_stays_and_the_loss_is_no_worse() -> None:
    model, useful = planted(3)
    questions = answered_by(model, QUESTIONS)
    settings = {"batch_size": 12, "epochs": 100, "max_steps": 100, "learning_rate": 0.2}
    penalty = {"attn": 2e-3, "ff": 5e-4}
    scores = l0(model, questions, penalty=penalty, **settings, **WINDOWS)
    assert all((scores.get(kind)[~useful[kind]] < 0).all() for kind in penalty)
    kept = Masks.from_topology(Topology.from_scores(scores, threshold=0.0))
    everything = Masks.ones(shape_of(model.config), ["attn", "ff"])
    before = mean_cross_entropy(model, questions, everything)
    assert mean_cross_entropy(model, questions, kept) <= before + 0.05


@pytest.mark.slow
def test_without_a_penalty_nothing_goes_and_useless_gates_do_not_move() -> None:
    model, useful = planted(0)
    scores = run(model, {"attn": 0, "ff": 0.0}, teacher=model, learning_rate=0.1)
    for kind in ("attn", "ff"):
        assert (scores.get(kind) > 0).all()
        idle = scores.get(kind)[~useful[kind]]
        assert np.abs(idle - 2.5).max() < 0.05
        assert scores.get(kind)[useful[kind]].min() > idle.max()


@pytest.mark.slow
def test_a_huge_penalty_removes_all_heads_and_activations_and_the_model_still_runs() -> None:
    model, _ = planted(0)
    scores = run(model, {"attn": 100.0, "ff": 100.0})
    topology = Topology.from_scores(scores, threshold=0.0)
    assert not any(map(len, [*topology.kept("attn"), *topology.kept("ff")]))
    assert all(share < 0.05 for share in scores.settings["report"]["open"].values())
    small = prune(model, topology)
    inputs, _, _ = next(single_windows(model, toy_windows(model, QUESTIONS)))
    with torch.no_grad(), apply_masks(model, Masks.from_topology(topology)):
        masked = model(**inputs).start_logits
        assert torch.isfinite(masked).all()
        torch.testing.assert_close(small(**inputs).start_logits, masked, atol=1e-4, rtol=1e-5)
    again = run(small, {"attn": 1.0, "ff": 1.0}, max_steps=2)
    assert (again.get("attn") == -np.inf).all()
    assert again.settings["report"]["open"] == {"attn": 0.0, "ff": 0.0}


def test_absent_slices_of_a_pruned_model_neither_count_nor_score() -> None:
    model = small_bert()
    topology = random_topology(shape_of(model.config), seed=3, emb=False)
    scores = run(prune(model, topology), {"attn": 1e-2, "ff": 1e-2}, max_steps=3)
    for kind in ("attn", "ff"):
        kept = topology.mask(kind)
        assert np.array_equal(np.isfinite(scores.get(kind)), kept)
        assert scores.settings["report"]["open"][kind] > 0.9


BASE: dict[str, Any] = {"max_steps": 6, "learning_rate": 0.1}
READINGS: dict[str, dict[str, Any]] = {
    "penalty on P(γ = 1)": {"penalty_on": "one"},
    "distillation": {"teacher": small_bert(seed=5, **DROPOUT)},
    "temperature": {
        "teacher": small_bert(seed=5, **DROPOUT),
        "distillation": Distillation(weight=0.5, temperature=2.0),
    },
    "BERT's Adam": {"optimizer": "bert_adam"},
    "dropout": {"dropout": True},
    "initial values": {"initial_mean": 2.0},
    "seed": {"seed": 1},
    "accumulation": {"accumulation": 2},
}


@pytest.mark.slow
def test_the_readings_of_the_method_differ_and_a_run_repeats_itself() -> None:
    model, penalty = small_bert(**DROPOUT), {"attn": 0.3, "ff": 0.01}
    found = {"": run(model, penalty, **BASE)}
    again = run(model, penalty, **BASE)
    assert np.array_equal(again.get("attn"), found[""].get("attn"))
    assert np.array_equal(again.get("ff"), found[""].get("ff"))
    for name, changes in READINGS.items():
        scores = run(model, penalty, **BASE, **changes)
        for other, earlier in found.items():
            moved = np.abs(scores.get("attn") - earlier.get("attn")).max()
            assert moved > 1e-4, f"{name!r} gives what {other!r} gives"
        found[name] = scores
    assert found["distillation"].settings["objective"] == "Distillation"
    assert not found["dropout"].additive


@pytest.mark.parametrize("norm", ["weighted", "plain"])
def test_embedding_gates_train(norm: str) -> None:
    model = small_bert()
    scores = run(model, {"emb": 0.05}, embedding_norm=norm, max_steps=12)
    assert scores.get("emb").shape == (32,)
    assert len(np.unique(scores.get("emb").round(6))) > 10
    other = run(model, {"emb": 0.05}, embedding_norm="plain", max_steps=12)
    assert np.array_equal(scores.get("emb"), other.get("emb")) == (norm == "plain")


def reports(monkeypatch: pytest.MonkeyPatch) -> list[TrainingReport]:
    """What training gives `l0`, for this test."""
    original, seen = GateTrainer.run, []

    def spy(*arguments: Any) -> TrainingReport:
        seen.append(original(*arguments))
        return seen[-1]

    monkeypatch.setattr(GateTrainer, "run", spy)
    return seen


def recorded_samples(monkeypatch: pytest.MonkeyPatch) -> list[Masks]:
    """The attn gates of every forward pass of gate training, for this test."""
    module: Any = importlib.import_module("qaprune_lib.scorers.l0")
    samples: list[Masks] = []

    def recording(model: Any, masks: Masks, **keywords: Any) -> Any:
        samples.append(Masks(attn=masks.get("attn").detach()))
        return apply_masks(model, masks, **keywords)

    monkeypatch.setattr(module, "apply_masks", recording)
    return samples


@pytest.mark.parametrize(("penalty_on", "shift"), [("nonzero", 1.5986), ("one", -1.5986)])
def test_the_objective_adds_each_kind_s_penalty(
    penalty_on: str, shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = small_bert(), reports(monkeypatch)
    settings = {**BASE, "penalty_on": penalty_on, "max_steps": 1, "learning_rate": 0.0}
    untrained = run(model, {"attn": 0.0, "ff": 0.0}, **settings)
    run(model, {"attn": 0.7, "ff": 0.02}, **settings)
    p_open = {k: 1 / (1 + np.exp(-(untrained.get(k) + shift))) for k in ("attn", "ff")}
    expected = 0.7 * p_open["attn"].sum() + 0.02 * p_open["ff"].sum()
    assert seen[1].losses[0] - seen[0].losses[0] == pytest.approx(expected, rel=1e-4)
    for kind, p in p_open.items():
        assert untrained.settings["report"]["open"][kind] == pytest.approx(p.mean(), rel=1e-4)


def test_a_sample_depends_on_seed_step_and_micro_step_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = recorded_samples(monkeypatch)
    model = small_bert()
    inputs, _, _ = next(single_windows(model, toy_windows(model, QUESTIONS)))
    for seed, step in ((0, (3, 1)), (0, (3, 1)), (0, (4, 1)), (0, (3, 0)), (1, (3, 1))):
        gated = GatedModel(model, ["attn"], GateSettings(training=TrainingSettings(seed=seed)))
        with torch.no_grad():
            gated.gate("attn").log_alpha.fill_(0.5)
        gated.step = step
        gated(**inputs)
        torch.rand(7)  # as dropout draws
    assert torch.equal(samples[0].get("attn"), samples[1].get("attn"))
    for other in samples[2:]:
        assert not torch.equal(samples[0].get("attn"), other.get("attn"))


def test_the_task_loss_is_the_mean_cross_entropy_under_the_step_s_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, seen, samples = small_bert(), reports(monkeypatch), recorded_samples(monkeypatch)
    questions = QUESTIONS.select(range(7))
    n_windows = len(toy_windows(model, questions))
    l0(model, questions, penalty={"attn": 0.0}, batch_size=n_windows, epochs=2, **WINDOWS)
    assert len(samples) == 2
    assert not torch.equal(samples[0].get("attn"), samples[1].get("attn"))
    for loss, sample in zip(seen[0].losses, samples, strict=True):
        assert loss == pytest.approx(mean_cross_entropy(model, questions, sample), rel=1e-5)


def test_no_gradient_is_built_for_frozen_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("qaprune_lib.scorers.l0")
    original, model, leaves = module.GateTrainer.compute_loss, small_bert(), []

    def checked(self: Any, gated: Any, *arguments: Any, **keywords: Any) -> torch.Tensor:
        loss = original(self, gated, *arguments, **keywords)
        (frozen,) = self.accelerator.unwrap_model(gated).frozen_model
        assert not any(weights.requires_grad for weights in frozen.parameters())
        queue, seen = [loss.grad_fn], set()
        while queue:
            node = queue.pop()
            if node is not None and node not in seen:
                seen.add(node)
                queue += [function for function, _ in node.next_functions]
        leaves.append({id(node.variable) for node in seen if hasattr(node, "variable")})
        gates = {id(gated.gate(kind).log_alpha) for kind in ("attn", "ff")}
        assert leaves[-1] == gates == {id(weights) for weights in gated.parameters()}
        return loss

    monkeypatch.setattr(module.GateTrainer, "compute_loss", checked)
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    run(model, {"attn": 0.1, "ff": 0.1}, max_steps=2)
    assert len(leaves) == 2
    assert all(weights.grad is None for weights in model.parameters())
    assert all(torch.equal(model.state_dict()[name], w) for name, w in before.items())


def test_the_mean_of_open_gates_is_that_of_their_samples() -> None:
    scores = run(small_bert(), {"attn": 0.3}, max_steps=30)
    assert scores.open_mean is not None
    u = np.random.default_rng(0).random((20000, 2, 4))
    s = 1 / (1 + np.exp(-(np.log(u) - np.log1p(-u) + scores.get("attn")) / (2 / 3)))
    expected = np.clip(s * 1.2 - 0.1, 0, 1).mean(0)
    np.testing.assert_allclose(scores.open_mean["attn"], expected, atol=0.015)
