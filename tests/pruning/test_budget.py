"""Budgets against brute force: the cut, the costs, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig

from qaprune_lib.errors import QapruneWarning, TopologyError
from qaprune_lib.models.choose import Budget
from qaprune_lib.models.encoder import Encoder
from qaprune_lib.models.pruned import QuestionAnsweringModel, full_class
from qaprune_lib.models.shape import ModelShape
from qaprune_lib.models.topology import Topology
from qaprune_lib.pruning.budget import MACs, Parameters, Speedup
from qaprune_lib.pruning.latency import LatencyTable
from qaprune_lib.pruning.slicing import prune
from qaprune_lib.scorers.scores import GateScores
from tests.quick import at_most

SHAPE = ModelShape(n_layers=2, n_heads=3, head_size=4, d_intermediate=5, d_embedding=12)
TABLE = LatencyTable(
    shape=SHAPE,
    model_type="bert",
    embedding=12,
    batch_size=1,
    length=8,
    device="none",
    threads=1,
    attn=(0.0, 3.0, 3.0, 4.5),
    ff_widths=(0, 1, 5),
    ff=(0.0, 1.0, 3.0),
    fixed=2.0,
)
LENGTH = 7


def milliseconds(topology: Topology) -> float:
    """By hand, from the numbers above."""
    attn = [0.0, 3.0, 3.0, 4.5]
    ff = [0.0, 1.0, 1.5, 2.0, 2.5, 3.0]
    layers = zip(topology.counts("attn"), topology.counts("ff"), strict=True)
    return 2.0 + sum(attn[heads] + ff[width] for heads, width in layers)


BUDGETS: dict[str, tuple[Callable[[float], Budget], Callable[[Topology], float]]] = {
    "parameters": (Parameters, lambda topology: topology.encoder_parameters()),
    "macs": (lambda share: MACs(share, LENGTH), lambda topology: topology.macs(LENGTH)),
    "speedup": (lambda share: Speedup(1 / share, table=TABLE), milliseconds),
}


@pytest.fixture(scope="module")
def model() -> QuestionAnsweringModel:
    config = BertConfig(
        vocab_size=20,
        hidden_size=SHAPE.d_embedding,
        num_hidden_layers=SHAPE.n_layers,
        num_attention_heads=SHAPE.n_heads,
        intermediate_size=SHAPE.d_intermediate,
        max_position_embeddings=16,
    )
    config._attn_implementation = "eager"  # whose products the counter knows
    model: QuestionAnsweringModel = full_class("bert")(config).eval()
    model.tokenizer = None  # type: ignore[assignment]
    return model


def make_scores(
    attn: np.ndarray | None = None,
    ff: np.ndarray | None = None,
    *,
    had: Topology | None = None,
    additive: bool = True,
    emb: np.ndarray | None = None,
    model_type: str = "bert",
) -> GateScores:
    return GateScores(
        had or Topology.full(SHAPE), model_type, method="test", seed=0, data_digest="", attn=attn,
        ff=ff, emb=emb, additive=additive,
    )  # fmt: skip


def random_masks(seed: int) -> dict[str, np.ndarray]:
    """Any counts, whole layers without heads or activations among them."""
    rng = np.random.default_rng(seed)
    return {kind: rng.random(SHAPE.gates(kind)) < rng.random((2, 1)) for kind in ("attn", "ff")}


def brute_force(scores: GateScores, share: float, cost: Callable[[Topology], float]) -> Topology:
    """Remove one slice after the other that is there, in order of value, until the limit is met."""
    full, nothing = Topology.full(SHAPE), {k: np.zeros(SHAPE.gates(k)) for k in ("attn", "ff")}
    emb, unit = {"emb": scores.topology.mask("emb")}, {}
    for kind in scores.kinds():
        with_all, without = (
            Topology.from_masks(SHAPE, {**emb, **m}) for m in ({}, {kind: nothing[kind]})
        )
        unit[kind] = (cost(with_all) - cost(without)) / nothing[kind].size
    slices = [
        (score / unit[kind] if scores.additive else score, kind, place)
        for kind in scores.kinds()
        for place, score in np.ndenumerate(scores.get(kind))
        if scores.topology.mask(kind)[place]
    ]
    keep = {kind: scores.topology.mask(kind) for kind in ("attn", "ff", "emb")}
    for _, kind, place in sorted(slices, key=lambda entry: entry[0]):
        if cost(Topology.from_masks(SHAPE, keep)) <= share * cost(full):
            break
        keep[kind][place] = False
    return Topology.from_masks(SHAPE, keep)


@pytest.mark.parametrize("name", BUDGETS)
@settings(max_examples=at_most(40))
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0.5, 1),
    kinds=st.sampled_from([("attn", "ff"), ("attn", "ff"), ("ff",), ("attn",)]),
    additive=st.booleans(),
    is_pruned=st.booleans(),
)
def test_cut_is_the_one_of_fewest_removals_in_rank_order(
    name: str, seed: int, share: float, kinds: tuple[str, ...], additive: bool, is_pruned: bool
) -> None:
    """Of what the model has: one that lost slices of any kind starts from there."""
    make_budget, cost = BUDGETS[name]
    rng = np.random.default_rng(seed)
    drawn = {kind: rng.normal(size=SHAPE.gates(kind)) for kind in kinds}
    lost = {kind: rng.random(SHAPE.gates(kind)) < 0.8 for kind in ("attn", "ff", "emb")}
    if name == "speedup" or not lost["emb"].any():
        del lost["emb"]
    had = Topology.from_masks(SHAPE, lost) if is_pruned else None
    scores = make_scores(drawn.get("attn"), drawn.get("ff"), additive=additive, had=had)
    expected = brute_force(scores, share, cost)
    if cost(expected) > share * cost(Topology.full(SHAPE)):
        with pytest.raises(TopologyError, match="cannot be met"):
            Topology.from_scores(scores, budget=make_budget(share))
    else:
        assert Topology.from_scores(scores, budget=make_budget(share)) == expected


@pytest.mark.parametrize("name", BUDGETS)
@given(seed=st.integers(0, 2**32 - 1))
def test_costs_add_up_to_those_of_the_topology(name: str, seed: int) -> None:
    make_budget, cost = BUDGETS[name]
    topology = Topology.from_masks(SHAPE, random_masks(seed))
    heads, activations = (np.array(topology.counts(kind), dtype=int) for kind in ("attn", "ff"))
    total = make_budget(0.5).costs(Topology.full(SHAPE), "bert").total(heads, activations)
    assert total == pytest.approx(cost(topology), rel=1e-12)


@settings(max_examples=at_most(15))
@given(seed=st.integers(0, 2**32 - 1))
def test_costs_are_those_of_the_pruned_model(model: QuestionAnsweringModel, seed: int) -> None:
    """Weights counted in the model itself, operations by torch's own counter."""
    topology = Topology.from_masks(SHAPE, random_masks(seed))
    layers = Encoder(prune(model, topology)).layers
    heads, activations = (np.array(topology.counts(kind), dtype=int) for kind in ("attn", "ff"))
    n_weights = sum(weights.numel() for layer in layers for weights in layer.parameters())
    assert (
        Parameters(0.5).costs(Topology.full(SHAPE), "bert").total(heads, activations) == n_weights
    )
    hidden = torch.randn(1, LENGTH, SHAPE.d_embedding, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        for layer in layers:
            hidden = layer(hidden)
    operations = MACs(0.5, LENGTH).costs(Topology.full(SHAPE), "bert").total(heads, activations)
    assert 2 * operations == counter.get_total_flops()


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, float("nan"), float("inf")])
@pytest.mark.parametrize("budget", [Parameters, MACs])
def test_share_out_of_range(budget: Callable[[float], Budget], share: float) -> None:
    scores = make_scores(np.ones((2, 3)))
    with pytest.raises(TopologyError, match=r"must be in \(0, 1\]"):
        Topology.from_scores(scores, budget=budget(share))


@pytest.mark.parametrize("ratio", [0.0, -2.0, 0.9, float("nan"), float("inf")])
def test_speedup_out_of_range(ratio: float) -> None:
    scores = make_scores(np.ones((2, 3)))
    with pytest.raises(TopologyError, match=r"must be in \(0, 1\]"):
        Topology.from_scores(scores, budget=Speedup(ratio, table=TABLE))


def test_whole_share_removes_nothing() -> None:
    scores = make_scores(-np.ones((2, 3)), -np.ones((2, 5)), additive=False)
    assert Topology.from_scores(scores, budget=Parameters(1.0)) == Topology.full(SHAPE)


def test_embedding_scores_are_refused() -> None:
    scores = make_scores(emb=np.ones(12))
    with pytest.raises(TopologyError, match="budgets weigh attn and ff"):
        Topology.from_scores(scores, budget=Parameters(0.5))


def test_table_of_another_model_is_refused() -> None:
    other = SHAPE.model_copy(update={"n_layers": 3})
    scores = make_scores(attn=np.ones((3, 3)), had=Topology.full(other))
    with pytest.raises(TopologyError, match="measured for a model of 2 layers"):
        Topology.from_scores(scores, budget=Speedup(1.5, table=TABLE))
    scores = make_scores(attn=np.ones((2, 3)), model_type="mpnet")
    with pytest.raises(TopologyError, match="measured for 'bert'; this is 'mpnet'"):
        Topology.from_scores(scores, budget=Speedup(1.5, table=TABLE))


def test_speedup_measures_the_scored_architecture_at_what_it_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def measure(shape: ModelShape, **sizes: Any) -> LatencyTable:
        asked.append((sizes["model_type"], sizes["embedding"], sizes["compute_dtype"]))
        slower = sizes["embedding"] / 12
        times = {"attn": (0.0, slower, 2 * slower, 3 * slower), "ff": (0.0, slower, 2 * slower)}
        return TABLE.model_copy(update={**sizes, **times, "fixed": 0.0})

    monkeypatch.setattr("qaprune_lib.pruning.budget.measure_latency", measure)
    half = Topology.from_masks(SHAPE, {"emb": np.arange(12) < 6})
    ranks = {"attn": np.arange(6.0).reshape(2, 3), "ff": 10 + np.arange(10.0).reshape(2, 5)}
    scores = make_scores(**ranks, had=half, additive=False, model_type="mpnet")
    with pytest.warns(QapruneWarning, match=r"is met already: .* share of 0.500 of the unpruned"):
        assert Topology.from_scores(scores, budget=Speedup(1.9, compute_dtype="bfloat16")) == half
    assert asked == [("mpnet", 6, "bfloat16"), ("mpnet", 12, "bfloat16")]
    # 10 ms unpruned, 5 ms at half the embedding, of which each head takes half a millisecond
    assert Topology.from_scores(scores, budget=Speedup(2.5)).counts("attn") == (1, 3)


@pytest.mark.parametrize("budget", [Parameters(0.8), MACs(0.8, LENGTH)])
def test_a_budget_that_is_met_already_removes_nothing_and_says_so(budget: Budget) -> None:
    """A model without most of its heads that is asked to keep 80%: no activation has to go."""
    had = Topology.from_masks(SHAPE, {"attn": np.eye(2, 3)})
    scores = make_scores(ff=np.arange(10.0).reshape(2, 5), had=had)
    with pytest.warns(
        QapruneWarning, match=r"0\.8.* is met already: the model has a share of 0\.\d"
    ):
        assert Topology.from_scores(scores, budget=budget) == had


def test_a_fraction_counts_what_is_gone() -> None:
    had = Topology.from_masks(SHAPE, {"attn": np.array([[True, False, True], [False, True, True]])})
    scores = make_scores(attn=np.arange(6.0).reshape(2, 3), had=had)
    with pytest.warns(QapruneWarning, match="fraction=0.2 of attn is met already: 2 of 6 are gone"):
        assert Topology.from_scores(scores, fraction=0.2) == had
    assert Topology.from_scores(scores, fraction=0.5).kept("attn") == ((2,), (1, 2))
    assert Topology.from_scores(scores, threshold=-1.0) == had
