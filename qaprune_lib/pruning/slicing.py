"""Pruning: the slices whose gates are closed leave the weights (paper section 3.3)."""

from __future__ import annotations

import torch
from torch import nn

from qaprune_lib.errors import GateError
from qaprune_lib.gates.masks import Masks
from qaprune_lib.models.encoder import Encoder
from qaprune_lib.models.heads import head_of
from qaprune_lib.models.pruned import QuestionAnsweringModel, pruned_class
from qaprune_lib.pruning.topology import Topology


def prune(
    model: QuestionAnsweringModel, topology: Topology, *, fold: Masks | None = None
) -> QuestionAnsweringModel:
    """A smaller model without masks, whose layers differ in size; `model` stays as it is.

    Heads: rows of query, key and value with their biases, columns of the output projection, whose
    bias stays. Activations: rows of the first linear layer with bias, columns of the second.
    Embedding dimensions: every matrix and LayerNorm that touches the hidden size, and the head.
    A layer may lose all heads or all activations: it then adds its output bias only.

    Args:
        model: pruned or not; slices that it lost already stay lost.
        topology: what stays.
        fold: gate values (attn and ff) multiplied into the weights of the slices that stay, in
            place of the paper's hard gates of 1.

    Raises:
        TopologyError: made for a model of another shape.
        GateError: gates that cannot be folded.
    """
    source = Encoder(model)
    topology.check_fits(source.shape)
    topology = topology.combine(Topology.of(model))
    target_class = pruned_class(source.architecture.model_type, model.head.task)
    config = target_class.config_class(
        **{
            **{k: v for k, v in model.config.to_dict().items() if k != "model_type"},
            "topology": topology.model_dump(mode="json"),
        }
    )
    config._attn_implementation = model.config._attn_implementation
    weights = _sliced_weights(source, topology, fold)
    with torch.random.fork_rng(devices=[]):
        small = target_class(config)
    reference = next(model.parameters())
    nn.Module.to(small, device=reference.device, dtype=reference.dtype)
    small.load_state_dict(weights)
    small.tokenizer, small.compute_dtype = model.tokenizer, model.compute_dtype
    return small.train(model.training)


def _sliced_weights(
    source: Encoder, topology: Topology, fold: Masks | None
) -> dict[str, torch.Tensor]:
    """The model's weights by name, without the slices that the topology removes."""
    if fold is not None:
        fold.check(source.shape)
        if fold.emb is not None:
            raise GateError("gates of embedding dimensions act in LayerNorm and cannot be folded")
        if any(fold.get(kind).dim() != len(source.shape.gates(kind)) for kind in fold.kinds()):
            raise GateError("gates with a batch dimension differ by example and cannot be folded")
    prefix = source.model.base_model_prefix
    weights = {name: w.detach().clone() for name, w in source.model.state_dict().items()}
    emb = _positions(source.kept.emb, topology.kept("emb")[0])
    size = source.shape.head_size
    paths = source.architecture
    for layer in range(source.shape.n_layers):
        base = f"{prefix}.{paths.layers}.{layer}."
        heads = _positions(source.kept.attn[layer], topology.kept("attn")[layer])
        columns = [head * size + i for head in heads for i in range(size)]
        activations = _positions(source.kept.ff[layer], topology.kept("ff")[layer])
        if fold is not None and fold.attn is not None and heads:
            gates = fold.attn[layer, list(source.kept.attn[layer])].repeat_interleave(size)
            weights[f"{base}{paths.attention_output}.weight"] *= gates.to(source.model.device)
        if fold is not None and fold.ff is not None and activations:
            gates = fold.ff[layer, list(source.kept.ff[layer])]
            weights[f"{base}{paths.output}.weight"] *= gates.to(source.model.device)
        for name in (paths.query, paths.key, paths.value):
            _cut(weights, base + name, rows=columns, columns=emb)
        _cut(weights, base + paths.attention_output, rows=emb, columns=columns)
        _cut(weights, base + paths.intermediate_dense, rows=activations, columns=emb)
        _cut(weights, base + paths.output, rows=emb, columns=activations)
        _cut(weights, base + paths.attention_norm, rows=emb)
        _cut(weights, base + paths.output_norm, rows=emb)
    _cut_embeddings(source, weights, prefix, emb)
    for name in head_of(source.model).layers:
        _cut(weights, name, columns=emb)
    return weights


def _cut_embeddings(
    source: Encoder, weights: dict[str, torch.Tensor], prefix: str, emb: list[int]
) -> None:
    paths = source.architecture
    if f"{prefix}.{paths.embeddings_project}.weight" in weights:
        _cut(weights, f"{prefix}.{paths.embeddings_project}", rows=emb)
        return
    _cut(weights, f"{prefix}.{paths.embeddings_norm}", rows=emb)
    for name in list(weights):
        if name.startswith(f"{prefix}.{paths.embeddings}.") and weights[name].dim() == 2:
            weights[name] = weights[name][:, emb]


def _positions(have: tuple[int, ...], keep: tuple[int, ...]) -> list[int]:
    """Where the slices to keep stand among those that the model still has."""
    place = {index: position for position, index in enumerate(have)}
    return [place[index] for index in keep]


def _cut(
    weights: dict[str, torch.Tensor],
    name: str,
    *,
    rows: list[int] | None = None,
    columns: list[int] | None = None,
) -> None:
    """Keep rows (with the bias) and columns of a linear layer or norm; drop it if nothing stays."""
    matrix = weights.pop(f"{name}.weight", None)
    bias = weights.pop(f"{name}.bias", None)
    if matrix is not None and rows != [] and columns != []:
        matrix = matrix if rows is None else matrix[rows]
        weights[f"{name}.weight"] = matrix if columns is None else matrix[:, columns]
    if bias is not None and rows != []:
        weights[f"{name}.bias"] = bias if rows is None else bias[rows]
