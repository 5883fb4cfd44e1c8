"""The table of architectures names modules that exist and have the sizes it implies."""

from __future__ import annotations

import pytest
from torch import nn
from transformers import AlbertConfig

from qaprune_lib.errors import ModelError
from qaprune_lib.models import (
    ARCHITECTURES,
    Encoder,
    ModelShape,
    Topology,
    architecture_of,
    full_class,
    pruned_class,
    shape_of,
)
from qaprune_lib.models.encoder import head_layers
from qaprune_lib.pruning import prune
from tests.models.tiny import TESTED, TINY, random_topology, tiny_model

SHAPE = ModelShape(n_layers=3, n_heads=4, head_size=8, d_intermediate=22, d_embedding=32)


def test_every_row_is_tested() -> None:
    assert {name.removesuffix("-projected") for name in TINY} == set(ARCHITECTURES)


def shape_for(architecture: str) -> ModelShape:
    return SHAPE.model_copy(update={"gated": architecture == "modernbert"})


@pytest.mark.parametrize("architecture", TINY)
def test_the_table_names_modules_of_the_right_sizes(architecture: str) -> None:
    model = tiny_model(architecture)
    assert type(model) is full_class(architecture.removesuffix("-projected"))
    encoder = Encoder(model)
    assert encoder.shape == shape_of(model.config) == shape_for(architecture)
    assert len(encoder.layers) == 3
    sizes = {"attn": 32, "ff": 22, "emb": 32, None: None}
    linear = []
    for part in encoder.parts():
        module = model.get_submodule(part.name)
        rows, columns = sizes[part.rows], sizes[part.columns]
        rows = None if rows is None else rows * part.stacked
        if isinstance(module, nn.Linear):
            linear.append(module)
            assert (rows, columns) in {
                (module.out_features, module.in_features),
                (module.out_features, None),
                (None, module.in_features),
            }
        elif isinstance(module, nn.Embedding):
            assert (rows, columns) == (None, module.embedding_dim)
        else:
            assert isinstance(module, nn.LayerNorm)
            assert ((rows,), columns) == (module.normalized_shape, None)
    # of the layers and the head nothing is left out, and nothing is named twice
    of_layers = [m for layer in encoder.layers for m in layer.modules() if isinstance(m, nn.Linear)]
    inputs = encoder.architecture.head_inputs or head_layers(model)
    heads = [model.get_submodule(name) for name in inputs]
    projected = [m for m in [encoder.embedding_output()] if isinstance(m, nn.Linear)]
    assert len(set(linear)) == len(linear)
    assert set(linear) == {*of_layers, *heads, *projected}
    assert len(projected) == (architecture == "electra-projected")


def test_other_architectures_are_refused_with_a_list_of_those_supported() -> None:
    with pytest.raises(ModelError, match="'albert' is not supported") as caught:
        architecture_of(AlbertConfig())
    assert all(name in str(caught.value) for name in ARCHITECTURES)


@pytest.mark.parametrize("architecture", TESTED)
def test_a_pruned_model_knows_its_original_sizes_and_what_is_kept(architecture: str) -> None:
    model = tiny_model(architecture)
    shape = shape_for(architecture)
    assert Topology.of(model) == Topology.of(model.config) == Topology.full(shape)
    topology = random_topology(shape, 0)
    small = prune(model, topology)
    assert type(small) is pruned_class(small.config.model_type.removeprefix("pruned-"))
    assert Encoder(small).shape == shape
    assert Encoder(small).architecture == Encoder(model).architecture
    assert Topology.of(small) == Topology.of(small.config) == topology
