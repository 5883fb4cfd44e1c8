"""Gates that are driven to a target: it is met, and the training is what brings them there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from qaprune_lib import Topology, load_model, load_squad
from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import SettingsError, TopologyError
from qaprune_lib.models import QuestionAnsweringModel
from qaprune_lib.pruning import MACs, Parameters, Speedup, measure_latency, prune
from qaprune_lib.scorers import l0
from qaprune_lib.scorers.scores import GateScores
from qaprune_lib.scorers.targets import Multipliers, at_target
from tests.models.tiny import random_topology, tiny_model
from tests.training.toy import WINDOWS, toy_questions

QUESTIONS = toy_questions(8)


def scored(model: QuestionAnsweringModel, target: Any, **settings: Any) -> GateScores:
    return l0(
        model, QUESTIONS, target=target, **{"batch_size": 4, "max_steps": 4, **settings}, **WINDOWS
    )


@pytest.mark.filterwarnings("ignore:log_alpha can move")
@pytest.mark.parametrize("draw", range(10))
def test_a_target_is_met(draw: int) -> None:
    generator = np.random.default_rng(draw)
    model = tiny_model("bert", seed=draw)
    attn, ff, share = (float(value) for value in generator.uniform(0.15, 0.9, 3))
    kept = Topology.from_scores(scored(model, {"attn": attn, "ff": ff}), threshold=0.0)
    assert kept.removed("attn") == pytest.approx(100 * attn, abs=50 / kept.mask("attn").size)
    assert kept.removed("ff") == pytest.approx(100 * ff, abs=50 / kept.mask("ff").size)
    whole = Topology.of(model)
    one_slice = 1 / min(whole.mask("attn").size, whole.mask("ff").size)
    kept = Topology.from_scores(scored(model, MACs(max(share, 0.3))), threshold=0.0)
    assert kept.macs(384) / whole.macs(384) <= max(share, 0.3)
    assert kept.macs(384) / whole.macs(384) > max(share, 0.3) - one_slice


@pytest.mark.filterwarnings("ignore:log_alpha can move")
def test_a_speed_up_is_met_by_measured_latencies() -> None:
    model = tiny_model("bert")
    shape = Topology.of(model).shape
    table = measure_latency(shape, length=16, repeats=1, device="cpu", progress=False)
    # what little attention and activations cost here, in round numbers
    rising = [float(n) for n in range(shape.n_heads + 1)]
    widths = [0, shape.d_intermediate]
    table = table.model_copy(
        update={"attn": tuple(rising), "ff_widths": tuple(widths), "ff": (0.0, 4.0), "fixed": 1.0}
    )
    kept = Topology.from_scores(scored(model, Speedup(1.6, table=table)), threshold=0.0)
    whole, small = table.predict(Topology.of(model)), table.predict(kept)
    assert 1.6 <= whole / small < 1.75


@pytest.mark.slow
def test_training_brings_the_gates_to_the_target() -> None:
    """The final cut apart: what gates are expected to be open is what was asked for."""
    model, train = load_model("embedded-small", layers=1, device="cpu"), load_squad("embedded")
    for target in ({"attn": 0.5, "ff": 0.7}, Parameters(0.45)):
        scores = l0(
            model, train["train"].select(range(64)), target=target, max_steps=160, epochs=100,
            batch_size=4, learning_rate=0.2, windows=Windows(64),
        )  # fmt: skip
        share = scores.settings["report"]["open"]
        if isinstance(target, dict):
            assert share["attn"] == pytest.approx(0.5, abs=0.12)
            assert share["ff"] == pytest.approx(0.3, abs=0.12)
        else:
            assert 0.33 < (share["attn"] + 2 * share["ff"]) / 3 < 0.57


@pytest.mark.filterwarnings("ignore:log_alpha can move")
@pytest.mark.filterwarnings("ignore:.*is met already")
def test_what_a_pruned_model_lacks_counts_as_removed() -> None:
    model = tiny_model("bert", seed=1)
    pruned = prune(model, random_topology(Topology.of(model).shape, 3))
    kept = Topology.from_scores(scored(pruned, {"ff": 0.8}), threshold=0.0)
    assert kept.combine(Topology.of(pruned)) == kept
    assert kept.removed("ff") == pytest.approx(80, abs=50 / kept.mask("ff").size)
    kept = Topology.from_scores(scored(pruned, Parameters(0.3)), threshold=0.0)
    full = Topology.full(kept.shape)
    assert kept.encoder_parameters() <= 0.3 * full.encoder_parameters()


def test_multipliers_ascend_until_the_target_is_met() -> None:
    model = tiny_model("bert")
    multipliers = Multipliers({"ff": 0.25}, model)
    gates = torch.full(Topology.of(model).mask("ff").shape, 1.0)
    multipliers({"ff": gates}, progress=1.0).backward()
    assert float(multipliers.linear.grad[0]) == pytest.approx(0.25)  # 1 − 0.75
    assert float(multipliers.square.grad[0]) == pytest.approx(0.0625)
    early = Multipliers({"ff": 0.25}, model)
    early({"ff": gates}, progress=0.0).backward()
    assert float(early.linear.grad[0]) == 0.0


def test_equal_scores_are_told_apart() -> None:
    model = tiny_model("bert")
    zeros = np.zeros(Topology.of(model).mask("attn").shape)
    scores = at_target(GateScores.of("l0", model, {"attn": zeros}, additive=False), {"attn": 0.5})
    assert Topology.from_scores(scores, threshold=0.0).removed("attn") == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": {"attn": 0.5}, "penalty": {"attn": 0.1}}, "either"),
        ({}, "either"),
        ({"target": {}}, "no kind"),
        ({"target": {"heads": 0.5}}, "heads"),
        ({"target": {"attn": 1.5}}, "1.5"),
        ({"target": {"attn": math.nan}}, "nan"),
        ({"target": {"attn": "half"}}, "half"),
        ({"target": 0.5}, "budget such as"),
        ({"target": {"attn": 0.5}, "optimizer": "bert_adam"}, "adam"),
    ],
)
def test_a_target_that_is_none_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        l0(tiny_model("bert"), QUESTIONS, **arguments, **WINDOWS)


def test_a_budget_that_cannot_be_met_is_refused_before_training() -> None:
    with pytest.raises(TopologyError, match="cannot be met"):
        scored(tiny_model("bert"), Parameters(0.001))
