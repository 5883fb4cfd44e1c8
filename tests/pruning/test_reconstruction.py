"""Reconstruction against a least-squares solver of its own, and against the plain slices."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import qaprune_lib as qp
from qaprune_lib.errors import DataError, SettingsError, TopologyError
from qaprune_lib.models import Encoder, QuestionAnsweringModel, Topology, shape_of, weights_digest
from qaprune_lib.pruning import Mended, prune, reconstruct, reconstruction
from tests.models.tiny import TESTED, random_topology, tiny_model
from tests.training.toy import toy_questions

WINDOWS = qp.Windows(40, 12)


def topology_of(model: QuestionAnsweringModel, kinds: tuple[str, ...], seed: int) -> Topology:
    """Layer 0 has no head left, or layer 1 no activation; the rest at random."""
    shape = shape_of(model.config)
    drawn = random_topology(shape, seed)
    return Topology.from_masks(shape, {kind: drawn.mask(kind) for kind in kinds})


def fitted(
    model: QuestionAnsweringModel, topology: Topology, **keywords: Any
) -> tuple[QuestionAnsweringModel, QuestionAnsweringModel, list[Mended]]:
    plain = prune(model, topology)
    questions = toy_questions(40)
    return plain, *reconstruct(plain, model, questions, windows=WINDOWS, **keywords)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", TESTED)
def test_nothing_removed_nothing_changes(architecture: str) -> None:
    model = tiny_model(architecture, trained=True)
    plain, same, mended = fitted(model, Topology.of(model))
    assert weights_digest(same) == weights_digest(plain)
    assert all(sublayer.before == sublayer.after == 0 for sublayer in mended)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", TESTED)
@pytest.mark.parametrize("kinds", [("ff",), ("attn", "ff", "emb")])
def test_nearer_to_the_full_model_on_other_windows(
    architecture: str, kinds: tuple[str, ...]
) -> None:
    model = tiny_model(architecture, trained=True).train()
    topology = topology_of(model, kinds, seed=1)
    before = weights_digest(model)
    plain, mended, found = fitted(model, topology, n_windows=64)

    assert weights_digest(model) == before
    assert model.training
    assert mended.training == plain.training
    assert Topology.of(mended) == topology
    sublayers = ["attention_output", "output"] * (len(found) // 2)
    assert [s.projection for s in found] == [*sublayers, "span_layer"]
    assert all(sublayer.after <= sublayer.before for sublayer in found)
    assert any(sublayer.after < sublayer.before for sublayer in found)


def test_a_model_that_computes_in_bfloat16_is_mended_too() -> None:
    model = tiny_model("bert", trained=True)
    model.compute_dtype = "bfloat16"
    plain, mended, found = fitted(model, topology_of(model, ("attn", "ff"), seed=1), n_windows=64)
    assert mended.compute_dtype == plain.compute_dtype == "bfloat16"
    assert {weights.dtype for weights in mended.parameters()} == {torch.float32}
    model.compute_dtype = plain.compute_dtype = "float32"
    _, exact = reconstruct(plain, model, toy_questions(40), windows=WINDOWS, n_windows=64)
    errors = [[sublayer.after for sublayer in each] for each in (found, exact)]
    assert errors[0] == pytest.approx(errors[1], rel=0.2, abs=1e-4)


def seen_at(
    model: QuestionAnsweringModel, module: torch.nn.Module, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and outputs of one of the model's layers."""
    seen: list[torch.Tensor] = []
    hook = module.register_forward_hook(lambda _, inputs, output: seen.extend([inputs[0], output]))
    with torch.inference_mode():
        model(**batch)
    hook.remove()
    return seen[0], seen[1]


def first_block(model: QuestionAnsweringModel) -> torch.nn.Module:
    return Encoder(model).module(0, "attention_output")


def span_layer(model: QuestionAnsweringModel) -> torch.nn.Module:
    return model.get_submodule("qa_outputs")


@pytest.mark.parametrize("layer_of", [first_block, span_layer])
def test_the_solution_is_that_of_least_squares(
    layer_of: Callable[[QuestionAnsweringModel], torch.nn.Module],
) -> None:
    model = tiny_model("bert", trained=True)
    keep = np.ones((3, 4), dtype=bool)
    keep[0, 1:] = False
    topology = Topology.from_masks(shape_of(model.config), {"attn": keep})
    plain, mended, found = fitted(model, topology, ridge=0.05, n_windows=12, heldout=0.3)
    batches = reconstruction._draw(model, toy_questions(40), WINDOWS, 12, 0)
    fit = batches[max(1, round(0.3 * len(batches))) :]
    assert found[0].after < found[0].before
    assert found[-1].after < found[-1].before
    unfitted = copy.deepcopy(mended)  # all but this layer
    layer_of(unfitted).load_state_dict(layer_of(plain).state_dict())

    rows, targets = [], []
    for batch in fit:
        real = batch["attention_mask"].bool()
        _, wanted = seen_at(model, layer_of(model), batch)
        inputs, got = seen_at(unfitted, layer_of(unfitted), batch)
        rows.append(inputs[real].double().numpy())
        targets.append((wanted - got)[real].double().numpy())
    a = np.concatenate(rows)
    a = np.concatenate([a, np.ones((len(a), 1))], axis=1)
    ridge = np.sqrt(0.05 * np.mean((a**2).sum(0)))
    stacked = np.concatenate([a, ridge * np.eye(a.shape[1])])
    goal = np.concatenate(targets)
    expected = np.linalg.lstsq(
        stacked, np.concatenate([goal, np.zeros((a.shape[1], goal.shape[1]))])
    )[0]
    old, new = (dict(layer_of(m).named_parameters()) for m in (plain, mended))
    change = (new["weight"] - old["weight"]).detach().double().numpy().T
    np.testing.assert_allclose(change, expected[:-1], rtol=1e-3, atol=1e-5)
    bias = (new["bias"] - old["bias"]).detach().double().numpy()
    np.testing.assert_allclose(bias, expected[-1], rtol=1e-3, atol=1e-5)


def test_what_cannot_be_fitted_is_an_error() -> None:
    model = tiny_model("bert")
    less = prune(model, topology_of(model, ("ff",), seed=3))
    questions = toy_questions(40)
    with pytest.raises(TopologyError, match="lacks slices"):
        reconstruct(model, less, questions, windows=WINDOWS)
    with pytest.raises(DataError, match="two windows"):
        reconstruct(less, model, questions.select([0]), windows=WINDOWS, n_windows=1)
    for wrong in ({"ridge": 0.0}, {"heldout": 1.0}, {"n_windows": 0}):
        with pytest.raises(SettingsError):
            reconstruct(less, model, questions, windows=WINDOWS, **wrong)


def test_prune_reconstructs_when_asked() -> None:
    model, questions = tiny_model("mpnet", trained=True), toy_questions(40)
    topology = topology_of(model, ("attn", "ff"), seed=1)
    by_hand, _ = reconstruct(prune(model, topology), model, questions, windows=WINDOWS)
    asked = prune(model, topology, reconstruct=questions, windows=WINDOWS)
    assert weights_digest(asked) == weights_digest(by_hand)
    assert weights_digest(asked) != weights_digest(prune(model, topology))
