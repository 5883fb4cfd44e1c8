"""What is done as asked, though it is likely not meant: each is said, with its numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import qaprune_lib as qp
from qaprune_lib.errors import QapruneWarning
from qaprune_lib.models import QuestionAnsweringModel, Topology, shape_of
from tests.models.tiny import random_topology, tiny_model
from tests.training.toy import WINDOWS, toy_questions

QUESTIONS = toy_questions(6)
LONG = {"penalty": {"attn": 0.1}, "learning_rate": 10.0, "max_steps": 3, "epochs": 9}
SCORERS: dict[str, Callable[[Any], Any]] = {
    "gain": lambda model: qp.scorers.gain(model, QUESTIONS, **WINDOWS),
    "fisher": lambda model: qp.scorers.fisher(model, QUESTIONS, **WINDOWS),
    "surgeon": lambda model: qp.scorers.surgeon(model, QUESTIONS, **WINDOWS),
    "leave_one_out": lambda model: qp.scorers.leave_one_out(model, QUESTIONS, **WINDOWS),
    "l0": lambda model: qp.scorers.l0(model, QUESTIONS, batch_size=2, **WINDOWS, **LONG),
}


def untrained(*layers: str, **sizes: Any) -> QuestionAnsweringModel:
    model = tiny_model("bert", num_hidden_layers=1, **sizes)
    for layer in layers:
        nn.init.zeros_(model.get_parameter(f"{layer}.bias"))
    return model


@pytest.mark.parametrize("name", SCORERS)
def test_a_head_that_was_never_trained_is_said(name: str) -> None:
    with pytest.warns(QapruneWarning, match=r"1 layers of the head were never .* \(qa_outputs\)"):
        SCORERS[name](untrained("qa_outputs"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", QapruneWarning)
        SCORERS[name](untrained())


def test_one_step_trains_a_head_and_saving_keeps_it_untrained(tmp_path: Any) -> None:
    model = untrained("qa_outputs")
    model.save_pretrained(tmp_path)
    with pytest.warns(QapruneWarning, match="never trained"):
        SCORERS["gain"](qp.load_model(tmp_path, device="cpu"))
    tuned = qp.finetune(model, QUESTIONS, max_steps=1, batch_size=2, **WINDOWS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", QapruneWarning)
        SCORERS["gain"](tuned)


@pytest.mark.parametrize(
    ("rate", "steps", "reach", "needed"), [(0.1, 2, "0.1", 300), (1.0, 3, "1.5", 30)]
)
def test_too_few_steps_of_l0_are_said(rate: float, steps: int, reach: str, needed: int) -> None:
    said = rf"move by about {reach} \(learning rate {rate:g} × {steps} .* take {needed} steps"
    options: dict[str, Any] = {**LONG, "learning_rate": rate, "max_steps": steps}
    with pytest.warns(QapruneWarning, match=said):
        qp.scorers.l0(untrained(), QUESTIONS, batch_size=2, **WINDOWS, **options)


def test_pruning_nothing_is_said() -> None:
    model = tiny_model("bert")
    topology = random_topology(shape_of(model.config), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", QapruneWarning)
        small = qp.prune(model, topology)
    with pytest.warns(QapruneWarning, match=r"0 slices: all that the model has \(12 attn, 66 ff"):
        qp.prune(model, Topology.full(topology.shape))
    with pytest.warns(QapruneWarning, match=f"{sum(topology.counts('attn'))} attn"):
        again = qp.prune(small, topology)  # what is gone already
    for name, weights in small.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name])
