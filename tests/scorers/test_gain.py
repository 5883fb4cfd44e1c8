"""Gain and Fisher against loops over single windows, and against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from qaprune_lib.errors import DataError, SettingsError
from qaprune_lib.gates import Masks, apply_masks
from qaprune_lib.models import Encoder, QuestionAnsweringModel, Topology, shape_of
from qaprune_lib.models.shape import KINDS
from qaprune_lib.pruning import prune
from qaprune_lib.scorers import fisher, gain
from qaprune_lib.scorers.gradients import gate_gradients
from tests.models.tiny import random_topology, tiny_model
from tests.training.toy import WINDOWS, single_windows, small_bert, toy_questions, toy_windows

QUESTIONS = toy_questions(6)


def literal_loss(outputs: Any, start: int, end: int) -> torch.Tensor:
    start_log_p = functional.log_softmax(outputs.start_logits[0], -1)
    end_log_p = functional.log_softmax(outputs.end_logits[0], -1)
    return -(start_log_p[start] + end_log_p[end]) / 2


def literal_gradients(
    model: QuestionAnsweringModel, kind: str, closed: int | None = None
) -> np.ndarray:
    """∂ loss / ∂ γ of each window by itself, [n_windows, ...gates]."""
    gradients = []
    for inputs, start, end in single_windows(model, toy_windows(model, QUESTIONS)):
        dtype = next(model.parameters()).dtype
        gate = torch.ones(shape_of(model.config).gates(kind), dtype=dtype)
        if closed is not None:
            gate.view(-1)[closed] = 0.0
        gate.requires_grad_()
        with apply_masks(model, Masks(**{kind: gate})):
            loss = literal_loss(model(**inputs), start, end)
        gradients.append(torch.autograd.grad(loss, gate)[0].numpy())
    return np.stack(gradients).astype(np.float64)


def scaled_loss(
    model: QuestionAnsweringModel, kind: str, layer: int, gate: int, value: float
) -> np.ndarray:
    """Losses [n_windows] with one gate at `value`, by scaling columns of a weight: no mask."""
    encoder = Encoder(model)
    size = encoder.shape.head_size if kind == "attn" else 1
    module = encoder.module(layer, "attention_output" if kind == "attn" else "output")
    weight: Any = module.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight[:, gate * size : (gate + 1) * size] *= value
        windows = single_windows(model, toy_windows(model, QUESTIONS))
        losses = [float(literal_loss(model(**inputs), s, e)) for inputs, s, e in windows]
        weight.copy_(before)
    return np.array(losses)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet", "distilbert"])
def test_gain_and_fisher_equal_a_loop_over_single_windows(architecture: str) -> None:
    model = tiny_model(architecture).double()
    found, squares = (scorer(model, QUESTIONS, kinds=KINDS, **WINDOWS) for scorer in (gain, fisher))
    for kind in KINDS:
        literal = literal_gradients(model, kind)
        np.testing.assert_allclose(found.get(kind), np.abs(literal).mean(0), rtol=0, atol=1e-6)
        np.testing.assert_allclose(squares.get(kind), (literal**2).sum(0), rtol=1e-6, atol=1e-9)
    assert found.settings["windows"] == len(toy_windows(model, QUESTIONS)) > len(QUESTIONS)


def test_gain_in_single_precision_is_as_exact_as_it_allows() -> None:
    model = tiny_model("bert")
    found = gain(model, QUESTIONS, **WINDOWS)
    for kind in ("attn", "ff"):
        literal = np.abs(literal_gradients(tiny_model("bert").double(), kind)).mean(0)
        largest = literal.max(-1, keepdims=True)
        assert (np.abs(found.get(kind) - literal) <= 1e-4 * largest).all()


@pytest.mark.parametrize(("kind", "layer", "gate"), [("attn", 0, 2), ("attn", 1, 1), ("ff", 1, 5)])
def test_gain_equals_finite_differences_of_scaled_weights(kind: str, layer: int, gate: int) -> None:
    model, step = small_bert().double(), 1e-5
    for at in (0, 1):
        found = gain(model, QUESTIONS, kinds=[kind], at=at, **WINDOWS)
        above = scaled_loss(model, kind, layer, gate, at + step)
        below = scaled_loss(model, kind, layer, gate, at - step)
        expected = np.abs((above - below) / (2 * step)).mean()
        assert found.get(kind)[layer, gate] == pytest.approx(expected, rel=1e-4)


def test_gain_at_zero_equals_a_loop_and_differs_from_gain_at_one() -> None:
    model = small_bert().double()
    found = gain(model, QUESTIONS, kinds=["attn"], at=0, **WINDOWS)
    literal = np.zeros(found.get("attn").size)
    for head in range(len(literal)):
        gradients = literal_gradients(model, "attn", closed=head)
        literal[head] = np.abs(gradients.reshape(len(gradients), -1)[:, head]).mean()
    np.testing.assert_allclose(found.get("attn").ravel(), literal, rtol=0, atol=1e-6)
    at_one = gain(model, QUESTIONS, kinds=["attn"], **WINDOWS)
    assert not np.allclose(found.get("attn"), at_one.get("attn"), rtol=0.05)


def test_gain_at_zero_refuses_more_gates_than_passes_are_sensible_for() -> None:
    model = small_bert(intermediate_size=300)
    with pytest.raises(SettingsError, match="600"):
        gain(model, QUESTIONS, kinds=["ff"], at=0, **WINDOWS)


def test_normalised_gain_has_layers_of_unit_length() -> None:
    model = small_bert()
    plain = gain(model, QUESTIONS, **WINDOWS)
    normalised = gain(model, QUESTIONS, normalize=True, **WINDOWS)
    for kind in ("attn", "ff"):
        expected = np.stack([row / np.sqrt((row**2).sum()) for row in plain.get(kind)])
        np.testing.assert_allclose(normalised.get(kind), expected, rtol=1e-12)


def test_gain_does_not_depend_on_batches_or_padding_as_a_batch_gradient_would() -> None:
    model = tiny_model("bert").double()
    features = toy_windows(model, QUESTIONS)
    per_window, per_batch = {}, {}
    for max_tokens in (1, 90, 4096):
        batches = [
            g["attn"] for g in gate_gradients(model, features, ["attn"], max_tokens=max_tokens)
        ]
        per_window[max_tokens] = sum(batch.abs().sum(0) for batch in batches)
        per_batch[max_tokens] = sum(batch.sum(0).abs() for batch in batches)
    assert len(batches) == 1  # one batch that pads nearly every window
    for max_tokens in (90, 4096):
        torch.testing.assert_close(per_window[max_tokens], per_window[1], rtol=0, atol=1e-9)
        ratio = per_batch[max_tokens] / per_batch[1]
        assert float(ratio.min()) < 0.9


def test_slices_that_a_pruned_model_lacks_score_lowest_and_the_rest_as_in_its_mask() -> None:
    model = tiny_model("bert").double()
    topology = random_topology(shape_of(model.config), seed=1, emb=False)
    small = prune(model, topology)
    found = gain(small, QUESTIONS, **WINDOWS)
    for kind in ("attn", "ff"):
        kept = topology.mask(kind)
        assert (found.get(kind)[~kept] == -np.inf).all()
        literal = np.abs(literal_gradients(small, kind)).mean(0)
        np.testing.assert_allclose(found.get(kind)[kept], literal[kept], rtol=0, atol=1e-6)


def test_a_model_without_any_head_can_be_scored() -> None:
    model = small_bert()
    shape = shape_of(model.config)
    none = Topology.from_masks(shape, {"attn": np.zeros(shape.gates("attn"), dtype=bool)})
    found = fisher(prune(model, none), QUESTIONS, **WINDOWS)
    assert (found.get("attn") == -np.inf).all()
    assert (found.get("ff") > 0).any()


@pytest.mark.parametrize("scorer", [gain, fisher])
def test_wrong_arguments_are_named(scorer: Any) -> None:
    model = small_bert()
    with pytest.raises(DataError, match="empty"):
        scorer(model, QUESTIONS.select([]), **WINDOWS)
    with pytest.raises(SettingsError, match="heads"):
        scorer(model, QUESTIONS, kinds=["heads"], **WINDOWS)
    with pytest.raises(SettingsError, match="at=2"):
        gain(model, QUESTIONS, at=2, **WINDOWS)
