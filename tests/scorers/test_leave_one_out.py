"""Leave-one-out against whole passes under explicit masks, and how much it computes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from qaprune_lib.errors import DataError
from qaprune_lib.evaluation.decode import decode
from qaprune_lib.evaluation.logits import window_logits
from qaprune_lib.evaluation.squad import score_predictions
from qaprune_lib.gates import Masks, apply_masks
from qaprune_lib.models import Encoder, QuestionAnsweringModel, Topology, shape_of
from qaprune_lib.pruning import prune
from qaprune_lib.scorers import leave_one_out
from tests.models.tiny import random_topology, tiny_model
from tests.training.toy import WINDOWS, answered_by, toy_questions, toy_windows


def questions_for(model: QuestionAnsweringModel) -> Any:
    """Mostly what the model answers, so that a missing head costs F1."""
    return answered_by(model, toy_questions(12, seed=3))


def literal_scores(model: QuestionAnsweringModel, questions: Any) -> np.ndarray:
    features = toy_windows(model, questions)

    def f1() -> float:
        logits = window_logits(model, features, progress=False)
        return score_predictions(questions, decode(questions, features, logits)).at_zero.f1

    shape, whole = shape_of(model.config), f1()
    scores = np.full(shape.gates("attn"), -np.inf)
    for layer, heads in enumerate(Topology.of(model).kept("attn")):
        for head in heads:
            gates = torch.ones(shape.gates("attn"))
            gates[layer, head] = 0.0
            with apply_masks(model, Masks(attn=gates)):
                scores[layer, head] = whole - f1()
    return scores


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    ["bert", "roberta eager", "electra", "mpnet", "bert pruned", "mpnet pruned", "modernbert"],
)
def test_scores_equal_those_of_explicit_masks(case: str) -> None:
    model = tiny_model(case.split()[0], attention="eager" if "eager" in case else None)
    if "pruned" in case:
        model = prune(model, random_topology(shape_of(model.config), seed=2, emb=False))
    questions = questions_for(model)
    found = leave_one_out(model, questions, max_tokens=90, **WINDOWS)
    np.testing.assert_array_equal(found.get("attn"), literal_scores(model, questions))
    finite = found.get("attn")[np.isfinite(found.get("attn"))]
    assert len(np.unique(finite)) > 2  # heads do differ
    assert found.additive


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "distilbert"])
def test_nothing_below_the_head_is_computed_again(architecture: str) -> None:
    model = tiny_model(architecture)
    questions, encoder, calls = questions_for(model), Encoder(model), Counter[str]()
    for layer in range(3):
        for name in ("per_head", "per_activation"):
            module = encoder.layers[layer].get_submodule(getattr(encoder.architecture, name)[0])
            module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    leave_one_out(model, questions, **WINDOWS)
    n_layers, n_heads = 3, 4
    # a whole pass, then for each head its layer without the attention, and the layers above
    assert calls["per_activation"] == n_layers + n_heads * (3 + 2 + 1)
    assert calls["per_head"] == n_layers + n_heads * (2 + 1 + 0)
    assert sum(calls.values()) < 0.6 * 2 * n_layers * (1 + n_layers * n_heads)


def test_an_empty_data_set_is_an_error() -> None:
    with pytest.raises(DataError, match="empty"):
        leave_one_out(tiny_model("bert"), toy_questions(3).select([]), **WINDOWS)
