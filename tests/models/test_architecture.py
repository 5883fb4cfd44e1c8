"""The table of architectures names modules that exist and have the sizes it implies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import DistilBertConfig

from qaprune_lib.errors import ModelError, TopologyError
from qaprune_lib.models import (
    ARCHITECTURES,
    Encoder,
    ModelShape,
    architecture_of,
    full_class,
    kept_slices,
    pruned_class,
    shape_of,
)
from qaprune_lib.models.architecture import indices_to_text, text_to_indices
from qaprune_lib.pruning import prune
from tests.models.tiny import PROJECTED, TESTED, random_topology, tiny_model


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, PROJECTED])
def test_the_table_names_modules_of_the_right_sizes(architecture: str) -> None:
    model = tiny_model(architecture)
    encoder = Encoder(model)
    assert encoder.shape == ModelShape(
        n_layers=3, n_heads=4, head_size=8, d_intermediate=22, d_embedding=32
    )
    assert len(encoder.layers) == 3
    sizes = {
        "query": (32, 32),
        "key": (32, 32),
        "value": (32, 32),
        "attention_output": (32, 32),
        "intermediate_dense": (32, 22),
        "output": (22, 32),
    }
    for layer in range(3):
        for name, (d_in, d_out) in sizes.items():
            module = encoder.module(layer, name)
            assert isinstance(module, nn.Linear)
            assert (module.in_features, module.out_features) == (d_in, d_out)
        for name in ("attention_norm", "output_norm"):
            assert isinstance(encoder.module(layer, name), nn.LayerNorm)
    projected = architecture == PROJECTED
    assert isinstance(encoder.embedding_output(), nn.Linear if projected else nn.LayerNorm)
    for name in model.head.layers:
        assert isinstance(model.get_submodule(name), nn.Linear)
    assert type(model) is full_class(architecture.removesuffix("-projected"))


def test_other_architectures_are_refused_with_a_list_of_those_supported() -> None:
    with pytest.raises(ModelError, match="'distilbert' is not supported") as caught:
        architecture_of(DistilBertConfig())
    assert all(name in str(caught.value) for name in ("bert", "roberta", "electra"))


@pytest.mark.parametrize("architecture", TESTED)
def test_a_pruned_model_knows_its_original_sizes_and_what_is_kept(architecture: str) -> None:
    model = tiny_model(architecture)
    topology = random_topology(shape_of(model.config), 0)
    small = prune(model, topology)
    assert type(small) is pruned_class(small.config.model_type.removeprefix("pruned-"))
    encoder = Encoder(small)
    assert encoder.shape == shape_of(model.config)
    assert encoder.architecture == Encoder(model).architecture
    assert encoder.kept.attn == topology.kept("attn")
    assert encoder.kept.ff == topology.kept("ff")
    assert encoder.kept.emb == topology.kept("emb")[0]
    whole = Encoder(model).kept
    assert whole.attn == (tuple(range(4)),) * 3
    assert whole.ff == (tuple(range(22)),) * 3
    assert whole.emb == tuple(range(32))


def test_a_malformed_topology_in_a_configuration_is_an_error() -> None:
    config = tiny_model("bert").config
    config.topology = {"attn": ["0-4", "", ""], "ff": ["0-7", "", ""], "emb": "0-31"}
    with pytest.raises(TopologyError, match="index 4"):
        kept_slices(config)


@given(indices=st.sets(st.integers(0, 40)).map(sorted))
def test_indices_round_trip_through_their_text(indices: list[int]) -> None:
    text = indices_to_text(indices)
    assert text_to_indices(text, 41) == tuple(indices)
    # ranges are maximal: as many as there are gaps
    starts = [index for index in indices if index - 1 not in indices]
    assert len(text.split()) == len(starts)


@given(text=st.text(alphabet="0123- ,a²", max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        indices = text_to_indices(text, 30)
    except TopologyError:
        return
    assert list(indices) == sorted(set(indices))
    assert all(0 <= index < 30 for index in indices)
    assert text_to_indices(indices_to_text(indices), 30) == indices
