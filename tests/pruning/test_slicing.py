"""A pruned model computes what the masked model computed, with less."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qaprune_lib.errors import GateError, TopologyError
from qaprune_lib.gates import Masks, apply_masks
from qaprune_lib.models import (
    QuestionAnsweringModel,
    Task,
    Topology,
    load_model,
    pruned_class,
    shape_of,
    weights_digest,
)
from qaprune_lib.pruning import prune
from tests.models.tiny import (
    TASKED,
    TESTED,
    assert_agree,
    logits,
    random_topology,
    tiny_batch,
    tiny_model,
    topologies,
)
from tests.quick import at_most

KINDS = ("attn", "ff", "emb")


@cache
def model_of(
    architecture: str, trained: bool, attention: str | None = None, task: Task = "squad"
) -> QuestionAnsweringModel:
    return tiny_model(architecture, task=task, trained=trained, attention=attention)


def masked_logits(
    model: QuestionAnsweringModel, gates: Masks | Topology, batch: dict[str, torch.Tensor]
) -> torch.Tensor:
    masks = gates if isinstance(gates, Masks) else Masks.from_topology(gates)
    with apply_masks(model, masks):
        return logits(model, batch)


@pytest.mark.parametrize(("architecture", "attention", "task"), TASKED)
@settings(max_examples=at_most(6))
@given(data=st.data())
def test_masked_pruned_and_reloaded_agree(
    architecture: str, attention: str, task: Task, data: st.DataObject
) -> None:
    model = model_of(architecture, data.draw(st.booleans(), label="trained"), attention, task)
    kinds = KINDS if data.draw(st.booleans(), label="with emb") else KINDS[:2]
    topology = data.draw(topologies(shape_of(model.config), kinds))
    batch = tiny_batch(model, padding=data.draw(st.sampled_from([0, 3])))

    masked = masked_logits(model, topology, batch)
    small = prune(model, topology)
    assert_agree(logits(small, batch), masked)
    assert Topology.of(small) == topology
    with tempfile.TemporaryDirectory() as folder:
        small.save_pretrained(folder)
        reloaded = load_model(folder, attn_implementation=attention, device="cpu")
    assert reloaded.config._attn_implementation == attention
    assert type(reloaded) is type(small) is pruned_class(model.config.model_type, task)
    assert_agree(logits(reloaded, batch), masked)
    assert_agree(logits(reloaded, batch), logits(small, batch), tolerance=1e-7)
    assert Topology.of(reloaded) == topology


@pytest.mark.parametrize("architecture", ["xlm-roberta", "camembert"])
def test_the_rest_of_the_table_is_pruned_alike(architecture: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    topology = random_topology(shape_of(model.config), 0)
    batch = tiny_batch(model)
    masked = masked_logits(model, topology, batch)
    small = prune(model, topology)
    assert_agree(logits(small, batch), masked)
    small.save_pretrained(tmp_path)
    assert_agree(logits(load_model(tmp_path, device="cpu"), batch), masked)


@pytest.mark.parametrize("architecture", TESTED)
def test_in_float64_masked_and_pruned_agree_to_its_precision(architecture: str) -> None:
    model = tiny_model(architecture).double()
    topology = random_topology(shape_of(model.config), 1)
    batch = tiny_batch(model)
    small = prune(model, topology)
    assert {weights.dtype for weights in small.parameters()} == {torch.float64}
    masked = masked_logits(model, topology, batch)
    assert_agree(logits(small, batch), masked, tolerance=1e-13)


def test_slices_are_the_rows_and_columns_of_the_definition() -> None:
    model = tiny_model("bert")
    topology = random_topology(shape_of(model.config), 2)
    small = prune(model, topology)
    full, cut = model.state_dict(), small.state_dict()
    emb = np.array(topology.kept("emb")[0])
    layer, size = 2, 8
    heads = np.concatenate([np.arange(size) + size * h for h in topology.kept("attn")[layer]])
    activations = np.array(topology.kept("ff")[layer])
    prefix = f"bert.encoder.layer.{layer}"
    rows_and_columns = {
        f"{prefix}.attention.self.query": (heads, emb),
        f"{prefix}.attention.self.key": (heads, emb),
        f"{prefix}.attention.self.value": (heads, emb),
        f"{prefix}.attention.output.dense": (emb, heads),
        f"{prefix}.intermediate.dense": (activations, emb),
        f"{prefix}.output.dense": (emb, activations),
        "qa_outputs": (np.arange(2), emb),
    }
    for name, (rows, columns) in rows_and_columns.items():
        assert torch.equal(cut[f"{name}.weight"], full[f"{name}.weight"][np.ix_(rows, columns)])
        assert torch.equal(cut[f"{name}.bias"], full[f"{name}.bias"][rows])
    table = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(cut[table], full[table][:, emb])
    bias = "bert.encoder.layer.{}.{}.dense.bias"
    for empty in (bias.format(0, "attention.output"), bias.format(1, "output")):
        assert torch.equal(cut[empty], full[empty][emb])
        assert empty.replace("bias", "weight") not in cut
    assert not any(name.startswith("bert.encoder.layer.0.attention.self") for name in cut)
    assert not any(name.startswith("bert.encoder.layer.1.intermediate") for name in cut)


def test_the_answer_type_layer_loses_columns_alone() -> None:
    model = tiny_model("bert", task="natural_questions")
    topology = random_topology(shape_of(model.config), 2)
    full, cut = model.state_dict(), prune(model, topology).state_dict()
    emb = np.array(topology.kept("emb")[0])
    for name in ("qa_outputs", "answer_type_outputs"):
        assert torch.equal(cut[f"{name}.weight"], full[f"{name}.weight"][:, emb])
        assert torch.equal(cut[f"{name}.bias"], full[f"{name}.bias"])


@pytest.mark.parametrize("architecture", TESTED)
@settings(max_examples=at_most(8))
@given(data=st.data())
def test_pruning_a_pruned_model_again(architecture: str, data: st.DataObject) -> None:
    model = model_of(architecture, False)
    shape = shape_of(model.config)
    first, second = (data.draw(topologies(shape, KINDS)) for _ in range(2))
    both = [first.mask(kind) & second.mask(kind) for kind in KINDS]
    small = prune(model, first)
    if not both[2].any():
        with pytest.raises(TopologyError):
            prune(small, second)
        with pytest.raises(GateError, match="still there"):
            masked_logits(small, second, tiny_batch(model))
        return
    at_once = prune(model, Topology.from_masks(shape, dict(zip(KINDS, both, strict=True))))
    twice = prune(small, second)
    assert Topology.of(twice) == Topology.of(at_once)
    assert weights_digest(twice) == weights_digest(at_once)
    batch = tiny_batch(model)
    assert_agree(masked_logits(small, second, batch), logits(at_once, batch))


@pytest.mark.parametrize("architecture", TESTED)
@settings(max_examples=at_most(8))
@given(data=st.data(), seed=st.integers(0, 2**16))
def test_folded_gates_equal_the_model_masked_with_them(
    architecture: str, data: st.DataObject, seed: int
) -> None:
    model = model_of(architecture, True)
    shape = shape_of(model.config)
    topology = data.draw(topologies(shape, ("attn", "ff")))
    generator = torch.Generator().manual_seed(seed)
    gates = Masks(
        **{
            kind: torch.rand(shape.gates(kind), generator=generator)
            for kind in data.draw(st.sampled_from([("attn",), ("ff",), ("attn", "ff")]))
        }
    )
    hard = Masks.from_topology(topology, ("attn", "ff"))
    closed = {
        kind: hard.get(kind) * (gates.get(kind) if kind in gates.kinds() else 1)
        for kind in ("attn", "ff")
    }
    batch = tiny_batch(model)
    folded = logits(prune(model, topology, fold=gates), batch)
    assert_agree(folded, masked_logits(model, Masks(**closed), batch))
    # a model that was pruned before takes the gates in the original numbering, too
    again = prune(prune(model, topology), topology, fold=gates)
    assert_agree(logits(again, batch), folded)


def test_folding_differs_from_hard_gates() -> None:
    model = tiny_model("bert", trained=True)
    shape = shape_of(model.config)
    topology = random_topology(shape, 0, emb=False)
    half = Masks(attn=torch.full(shape.gates("attn"), 0.5), ff=torch.full(shape.gates("ff"), 0.5))
    batch = tiny_batch(model)
    hard, folded = (logits(prune(model, topology, fold=fold), batch) for fold in (None, half))
    assert (hard - folded).abs().max() > 1e-2


def test_gates_that_cannot_be_folded_are_refused() -> None:
    model = tiny_model("bert")
    shape = shape_of(model.config)
    topology = Topology.full(shape)
    with pytest.raises(GateError, match="cannot be folded"):
        prune(model, topology, fold=Masks.ones(shape, ["emb"]))
    with pytest.raises(GateError, match="differ by example"):
        prune(model, topology, fold=Masks.ones(shape, ["attn"], batch=3))
    with pytest.raises(GateError, match="shape"):
        prune(model, topology, fold=Masks(attn=torch.ones(2, 4)))


def test_pruning_everything_leaves_a_model_that_runs() -> None:
    model = tiny_model("roberta")
    shape = shape_of(model.config)
    nothing = Topology.from_masks(
        shape, {kind: np.zeros(shape.gates(kind), bool) for kind in ("attn", "ff")}
    )
    small = prune(model, nothing)
    batch = tiny_batch(model)
    assert_agree(logits(small, batch), masked_logits(model, nothing, batch))
    layers = small.base_model.get_submodule("encoder.layer")
    assert sum(weights.numel() for weights in layers.parameters()) == nothing.encoder_parameters()


def test_the_model_and_the_random_state_stay_as_they_were() -> None:
    model = tiny_model("electra").train()
    digest, state = weights_digest(model), torch.get_rng_state()
    small = prune(model, random_topology(shape_of(model.config), 0))
    assert weights_digest(model) == digest
    assert torch.equal(torch.get_rng_state(), state)
    assert small.training
    assert not prune(model.eval(), Topology.of(small)).training
    assert small.tokenizer is model.tokenizer
    with torch.no_grad():
        for weights in small.parameters():
            weights.zero_()
    assert weights_digest(model) == digest


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_embeddings_keep_their_padding_row(architecture: str) -> None:
    model = tiny_model(architecture)
    small = prune(model, random_topology(shape_of(model.config), 0))
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        full, cut = (m.base_model.get_submodule(f"embeddings.{name}") for m in (model, small))
        assert cut.padding_idx == full.padding_idx


def test_a_pruned_model_trains() -> None:
    model = tiny_model("bert")
    small = prune(model, random_topology(shape_of(model.config), 0))
    batch = tiny_batch(small)
    output = small(**batch)
    (output.start_logits.square().mean() + output.end_logits.square().mean()).backward()
    assert all(
        weights.grad is not None and torch.isfinite(weights.grad).all()
        for name, weights in small.named_parameters()
    )


def test_transfer_to_another_checkpoint_and_refusal_of_another_shape() -> None:
    one, other = (tiny_model("bert", seed=seed) for seed in (0, 1))
    topology = random_topology(shape_of(one.config), 0)
    batch = tiny_batch(other)
    transferred = prune(other, Topology.of(prune(one, topology)))
    assert_agree(logits(transferred, batch), masked_logits(other, topology, batch))
    wider = tiny_model("bert", intermediate_size=24)
    with pytest.raises(TopologyError, match="24 activations"):
        prune(wider, topology)
    deeper = tiny_model("bert", num_hidden_layers=4)
    with pytest.raises(TopologyError, match="4 layers"):
        prune(deeper, topology)


@pytest.mark.parametrize("architecture", TESTED)
def test_predictions_do_not_depend_on_padding(architecture: str) -> None:
    model = tiny_model(architecture, trained=True)
    topology = random_topology(shape_of(model.config), 3)
    small = prune(model, topology)
    for padding in (1, 5):
        short, long = tiny_batch(model), tiny_batch(model, padding=padding)
        assert_agree(logits(model, long), logits(model, short))
        assert_agree(logits(small, long), logits(small, short))
        assert_agree(
            masked_logits(model, topology, long),
            masked_logits(model, topology, short),
        )
