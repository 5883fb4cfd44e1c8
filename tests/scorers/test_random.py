"""Random gates: how many stay, and seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qaprune_lib.errors import SettingsError
from qaprune_lib.models import Topology, shape_of
from qaprune_lib.pruning import prune
from qaprune_lib.scorers import random
from tests.models.tiny import random_topology
from tests.quick import at_most
from tests.training.toy import small_bert

WIDE = small_bert(intermediate_size=400)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_each_gate_stays_with_probability_p(p: float) -> None:
    kept = [
        Topology.from_scores(random(WIDE, kinds=["ff"], seed=seed), threshold=1 - p).kept("ff")
        for seed in range(10)
    ]
    n = 10 * 2 * 400
    share = sum(len(layer) for layers in kept for layer in layers) / n
    assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / n)


@settings(max_examples=at_most(20))
@given(seed=st.integers(0, 2**31), fraction=st.sampled_from([0.0, 0.25, 0.5, 0.875, 1.0]))
def test_a_fraction_is_exact_and_a_seed_says_which(seed: int, fraction: float) -> None:
    scores = random(WIDE, seed=seed)
    topology = Topology.from_scores(scores, fraction=fraction)
    for kind, n in (("attn", 8), ("ff", 800)):
        assert sum(map(len, topology.kept(kind))) == round(n * (1 - fraction))
        assert np.array_equal(scores.get(kind), random(WIDE, seed=seed).get(kind))
        assert not np.array_equal(scores.get(kind), random(WIDE, seed=seed + 1).get(kind))


def test_a_pruned_model_s_absent_slices_score_lowest() -> None:
    model = small_bert()
    topology = random_topology(shape_of(model.config), seed=0)
    scores = random(prune(model, topology), kinds=("attn", "ff", "emb"))
    for kind in scores.kinds():
        kept = topology.mask(kind)
        assert np.array_equal(np.isfinite(scores.get(kind)), kept)


def test_unknown_kinds_are_refused() -> None:
    for kinds in ([], ["heads"]):
        with pytest.raises(SettingsError, match="attn"):
            random(WIDE, kinds=kinds)
