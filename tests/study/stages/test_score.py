"""What the stage hands to a scorer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

import qaprune_lib as qp
from study.plan.parameters import ScoreGates
from study.stages.score import _rankings
from tests.models.tiny import tiny_model


def test_random_draws_each_seed_from_the_runs_own_on_and_its_kinds_alone() -> None:
    model = tiny_model("bert")
    settings = ScoreGates(scorer="random", kinds=["ff"], random_seeds=3, seed=5, penalty_attn=None)
    run: Any = SimpleNamespace(parameters=settings)
    found = _rankings(run, model, None)
    assert len(found) == 3
    for seed, scores in zip((5, 6, 7), found, strict=True):
        expected = qp.scorers.random(model, kinds=["ff"], seed=seed)
        assert list(scores.kinds()) == ["ff"]
        assert np.array_equal(scores.get("ff"), expected.get("ff"))
