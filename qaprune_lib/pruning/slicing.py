"""Pruning: the slices whose gates are closed leave the weights (paper section 3.3)."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from qaprune_lib.data.tasks import QuestionData
from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import GateError, warn
from qaprune_lib.gates.masks import Masks
from qaprune_lib.models.adopt import check_own
from qaprune_lib.models.architecture import architecture_of
from qaprune_lib.models.encoder import Encoder, Part
from qaprune_lib.models.pruned import QuestionAnsweringModel, pruned_class
from qaprune_lib.models.shape import KINDS
from qaprune_lib.models.topology import Topology
from qaprune_lib.pruning.reconstruction import reconstruct as fit_projections


def prune(
    model: QuestionAnsweringModel,
    topology: Topology,
    *,
    fold: Masks | None = None,
    reconstruct: QuestionData | None = None,
    windows: Windows | None = None,
) -> QuestionAnsweringModel:
    """A smaller model without masks, whose layers differ in size; `model` stays as it is.

    Heads: rows of query, key and value with their biases, columns of the output projection, whose
    bias stays. Activations: rows of the first linear layer with bias, columns of the second.
    Embedding dimensions: every matrix and LayerNorm that touches the hidden size, and the head.
    A layer may lose all heads or all activations: it then adds its output bias only.

    >>> from qaprune_lib import load_model, scorers
    >>> model = load_model("embedded-small", device="cpu")
    >>> kept = Topology.from_scores(scorers.random(model, kinds=["attn"]), fraction=0.5)
    >>> Topology.of(prune(model, kept)).removed("attn")
    50.0

    Args:
        model: pruned or not; slices that it lost already stay lost.
        topology: what stays.
        fold: gate values (attn and ff) multiplied into the weights of the slices that stay, in
            place of the paper's hard gates of 1.
        reconstruct: questions such as `squad["train"]`, on some of whose windows the output
            projections are fitted to `model`'s (`qaprune_lib.pruning.reconstruct`); None: the
            plain slices, as in the paper.
        windows: sizes of these windows.

    Raises:
        TopologyError: made for a model of another shape.
        GateError: gates that cannot be folded.
        ModelError: a stock model (`adopt` takes it in), or a wrapped one.

    Warns:
        QapruneWarning: nothing is removed.
    """
    check_own(model)
    source = Topology.of(model)
    topology.check_fits(source.shape)
    topology = topology.combine(source)
    if topology == source and fold is None:
        sizes = [f"{sum(source.counts(kind))} {kind}" for kind in KINDS]
        warn(f"prune removes 0 slices: all that the model has ({', '.join(sizes)}) stay")
    target_class = pruned_class(architecture_of(model.config).model_type, model.task_head.task)
    config = target_class.config_class(
        **{
            **{k: v for k, v in model.config.to_dict().items() if k != "model_type"},
            "topology": topology.model_dump(mode="json"),
        }
    )
    config._attn_implementation = model.config._attn_implementation
    weights = _sliced_weights(model, source, topology, fold)
    with torch.random.fork_rng(devices=[]):
        small = target_class(config)
    reference = next(model.parameters())
    nn.Module.to(small, device=reference.device, dtype=reference.dtype)
    small.load_state_dict(weights)
    small.tokenizer, small.compute_dtype = model.tokenizer, model.compute_dtype
    small.train(model.training)
    if reconstruct is None:
        return small
    return fit_projections(small, model, reconstruct, windows=windows)[0]


def _sliced_weights(
    model: QuestionAnsweringModel, source: Topology, topology: Topology, fold: Masks | None
) -> dict[str, torch.Tensor]:
    """The model's weights by name, without the slices that the topology removes."""
    shape, gates = source.shape, {}
    if fold is not None:
        fold.check(source)
        if fold.emb is not None:
            raise GateError("gates of embedding dimensions act in LayerNorm and cannot be folded")
        gates = {kind: fold.get(kind).to(model.device) for kind in fold.kinds()}
        if any(gates[kind].dim() != len(shape.gates(kind)) for kind in gates):
            raise GateError("gates with a batch dimension differ by example and cannot be folded")
    positions = {kind: _positions(source, topology, kind) for kind in KINDS}
    weights = {name: w.detach().clone() for name, w in model.state_dict().items()}
    for part in Encoder(model).parts():
        rows, columns = (
            None if kind is None else positions[kind][part.layer]
            for kind in (part.rows, part.columns)
        )
        _cut(weights, part, rows=rows, columns=columns)
        if part.columns in gates and f"{part.name}.weight" in weights:
            stay = torch.from_numpy(topology.mask(part.columns)[part.layer])
            values = gates[part.columns][part.layer, stay.to(model.device)]
            n_columns = weights[f"{part.name}.weight"].shape[1]
            weights[f"{part.name}.weight"] *= values.repeat_interleave(n_columns // len(values))
    return weights


def _positions(source: Topology, topology: Topology, kind: str) -> list[torch.Tensor]:
    """By layer, where the rows or columns to keep stand among those that the model still has."""
    each = source.shape.head_size if kind == "attn" else 1
    rows = zip(np.atleast_2d(source.mask(kind)), np.atleast_2d(topology.mask(kind)), strict=True)
    found = [torch.from_numpy(np.flatnonzero(keep[have].repeat(each))) for have, keep in rows]
    return found * source.shape.n_layers if kind == "emb" else found


def _cut(
    weights: dict[str, torch.Tensor],
    part: Part,
    *,
    rows: torch.Tensor | None,
    columns: torch.Tensor | None,
) -> None:
    """Keep rows (with the bias) and columns of a linear layer or norm; drop it if nothing stays."""
    name = part.name
    matrix = weights.pop(f"{name}.weight", None)
    bias = weights.pop(f"{name}.bias", None)
    if rows is not None and not len(rows):
        return
    if matrix is not None and rows is not None:
        block = len(matrix) // part.stacked
        rows = torch.cat([rows + block * number for number in range(part.stacked)])
    if matrix is not None and (columns is None or len(columns)):
        matrix = matrix if rows is None else matrix[rows]
        weights[f"{name}.weight"] = matrix if columns is None else matrix[:, columns]
    if bias is not None:
        weights[f"{name}.bias"] = bias if rows is None else bias[rows]
