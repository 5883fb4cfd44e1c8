"""DeBERTa's variants: projections of positions, and what stands in the way of embedding gates."""

from __future__ import annotations

from typing import Any

import pytest

import qaprune_lib as qp
from qaprune_lib.errors import GateError, SettingsError
from tests.models.tiny import assert_agree, logits, random_topology, tiny_batch, tiny_model

OBSTACLES: dict[str, dict[str, Any]] = {
    "encoder.conv": {"conv_kernel_size": 3},
    "embeddings.embed_proj": {"embedding_size": 12},
    "encoder.rel_embeddings without a norm": {"norm_rel_ebd": "none"},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "own projections": {"share_att_key": False},
    "one direction": {"share_att_key": False, "pos_att_type": ["c2p"]},
    "absolute positions too": {"position_biased_input": True, "type_vocab_size": 2},
    "no relative positions": {"relative_attention": False, "position_biased_input": True},
}


def agree(variant: dict[str, Any], seed: int, *, emb: bool) -> None:
    """A masked model says what its pruned one says."""
    model = tiny_model("deberta-v2", **variant)
    topology = random_topology(qp.Topology.of(model).shape, seed, emb=emb)
    batch = tiny_batch(model, padding=3)
    kinds = ("attn", "ff", "emb") if emb else ("attn", "ff")
    with qp.apply_masks(model, qp.Masks.from_topology(topology, kinds)):
        masked = logits(model, batch)
    assert_agree(logits(qp.prune(model, topology), batch), masked)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", VARIANTS)
def test_variants_masked_and_pruned_agree(name: str, seed: int) -> None:
    agree(VARIANTS[name], seed, emb=True)


@pytest.mark.parametrize("name", OBSTACLES)
def test_embedding_gates_are_refused_where_they_cannot_be_and_the_others_work(name: str) -> None:
    agree(OBSTACLES[name], 0, emb=False)
    model = tiny_model("deberta-v2", **OBSTACLES[name])
    shape = qp.Topology.of(model).shape
    cut = random_topology(shape, 1)
    with pytest.raises(GateError, match=f"cannot be gated in a deberta-v2 with {name}"):
        qp.prune(model, cut)
    masks = qp.Masks.ones(shape, ["emb"])
    with pytest.raises(GateError, match=name), qp.apply_masks(model, masks):
        pass


def test_inputs_may_be_as_long_as_the_configuration_says() -> None:
    model = tiny_model("deberta-v2")
    context = "Ann was born in Rome. " * 40
    assert qp.ask(model, "Where?", context, windows=qp.Windows(80, 20)).text
    with pytest.raises(SettingsError, match="80"):
        qp.ask(model, "Where?", context, windows=qp.Windows(81, 20))
