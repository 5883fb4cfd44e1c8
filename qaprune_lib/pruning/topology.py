"""`Topology`: which heads, activations and embedding dimensions stay, layer by layer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from transformers import PreTrainedModel

from qaprune_lib.cache import write_atomically
from qaprune_lib.errors import TopologyError
from qaprune_lib.gates.masks import Masks
from qaprune_lib.models.encoder import kept_slices, shape_of
from qaprune_lib.models.shape import ModelShape, indices_to_text, text_to_indices
from qaprune_lib.pruning.budget import Budget, threshold_for_budget
from qaprune_lib.scorers.scores import GateScores


class Topology(BaseModel):
    """Slices that stay, in the numbering of the unpruned model.

    Indices are kept as text, ascending ranges such as "0-2 5", so that the JSON stays small and
    readable; `kept` gives them as numbers. A topology applies to any checkpoint of the same shape:
    that is the paper's transfer of gates (section 4.3.1).

    Raises:
        TopologyError: indices outside of the shape, a wrong number of layers, no embedding
            dimension left.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: ModelShape
    attn: tuple[str, ...]
    ff: tuple[str, ...]
    emb: str

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            reason = f"{place}: {first['msg']}" if place else first["msg"]
            raise TopologyError(reason.removeprefix("Value error, ")) from error

    @model_validator(mode="after")
    def _check(self) -> Topology:
        for kind, layers in (("attn", self.attn), ("ff", self.ff)):
            if len(layers) != self.shape.n_layers:
                raise TopologyError(
                    f"{kind} lists {len(layers)} layers, the shape has {self.shape.n_layers}"
                )
            for text in layers:
                text_to_indices(text, self.shape.gates(kind)[1])
        if not text_to_indices(self.emb, self.shape.d_embedding):
            raise TopologyError("no embedding dimension is left")
        return self

    # --- making one

    @classmethod
    def full(cls, shape: ModelShape) -> Topology:
        """Everything stays."""
        return cls.from_masks(shape, {})

    @classmethod
    def of(cls, model: PreTrainedModel) -> Topology:
        """The topology that a model has now."""
        kept = kept_slices(model.config)
        return cls(
            shape=shape_of(model.config),
            attn=tuple(map(indices_to_text, kept.attn)),
            ff=tuple(map(indices_to_text, kept.ff)),
            emb=indices_to_text(kept.emb),
        )

    @classmethod
    def from_masks(cls, shape: ModelShape, keep: Mapping[str, np.ndarray]) -> Topology:
        """From boolean arrays of the shapes of `Masks`; kinds that are absent stay whole."""
        full = {kind: np.ones(shape.gates(kind), dtype=bool) for kind in ("attn", "ff", "emb")}
        for kind, mask in keep.items():
            if kind not in full or np.shape(mask) != full[kind].shape:
                raise TopologyError(
                    f"mask {kind!r} of shape {list(np.shape(mask))} does not fit a model of {shape}"
                )
        full.update({kind: np.asarray(mask, dtype=bool) for kind, mask in keep.items()})
        if not full["emb"].any():
            raise TopologyError("no embedding dimension would be left")
        return cls(
            shape=shape,
            attn=tuple(indices_to_text(np.flatnonzero(row).tolist()) for row in full["attn"]),
            ff=tuple(indices_to_text(np.flatnonzero(row).tolist()) for row in full["ff"]),
            emb=indices_to_text(np.flatnonzero(full["emb"]).tolist()),
        )

    @classmethod
    def from_scores(
        cls,
        scores: GateScores,
        *,
        threshold: float | Mapping[str, float] | None = None,
        fraction: float | Mapping[str, float] | None = None,
        budget: Budget | None = None,
        multiple_of: int | Mapping[str, int] | None = None,
    ) -> Topology:
        """Cut scores, in exactly one of three ways.

        Args:
            threshold: slices whose score is above it stay.
            fraction: this share of each kind is *removed*, the lowest scores over all layers.
            budget: slices are removed, the least useful first, until the encoder meets a budget
                (`Parameters`, `MACs` or `Speedup`); the kinds compete with each other.
            multiple_of: each layer's count is then rounded to the nearest multiple, adding or
                dropping the slices whose score is nearest to the cut.

        Raises:
            TopologyError: not exactly one way, or a value out of range.
        """
        if sum(choice is not None for choice in (threshold, fraction, budget)) != 1:
            raise TopologyError("pass exactly one of threshold=, fraction= and budget=")
        kinds = scores.kinds()
        if threshold is not None:
            cuts = _per_kind("threshold", threshold, kinds)
            if any(np.isnan(cut) for cut in cuts.values()):
                raise TopologyError(f"threshold={threshold} is not a number")
            keep = {kind: scores.get(kind) > cuts[kind] for kind in kinds}
        elif fraction is not None:
            shares = _per_kind("fraction", fraction, kinds)
            keep = {kind: _keep_share(scores.get(kind), shares[kind]) for kind in kinds}
        else:
            assert budget is not None
            keep = threshold_for_budget(scores, budget)
        topology = cls.from_masks(scores.shape, keep)
        return topology if multiple_of is None else topology.rounded(scores, multiple_of)

    def rounded(self, scores: GateScores, multiple_of: int | Mapping[str, int]) -> Topology:
        """Each layer's count at the nearest multiple; scores decide which slices come or go."""
        steps = _per_kind("multiple_of", multiple_of, scores.kinds())
        keep: dict[str, np.ndarray] = {}
        for kind in scores.kinds():
            mask = self.mask(kind)
            rows = np.atleast_2d(mask)
            scored = np.atleast_2d(scores.get(kind))  # −inf where there is no slice any more
            rounded = np.zeros_like(rows)
            for row, values, target in zip(rows, scored, rounded, strict=True):
                step = int(steps[kind])
                if step < 1:
                    raise TopologyError(f"multiple_of={multiple_of} must be at least 1")
                nearest = int(np.floor(row.sum() / step + 0.5)) * step
                count = min(nearest, int(np.isfinite(values).sum()))
                order = np.argsort(-values, kind="stable")
                kept_first = order[np.argsort(~row[order], kind="stable")]
                target[kept_first[:count]] = True
            keep[kind] = rounded.reshape(mask.shape)
        kinds_left = {k: self.mask(k) for k in ("attn", "ff", "emb") if k not in keep}
        return self.from_masks(self.shape, {**keep, **kinds_left})

    # --- reading one

    def shuffled(self, seed: int) -> Topology:
        """As many heads and activations in each layer, but others, drawn at random."""
        generator = np.random.default_rng(seed)
        masks = {
            kind: np.stack([generator.permutation(layer) for layer in self.mask(kind)])
            for kind in ("attn", "ff")
        }
        return Topology.from_masks(self.shape, {**masks, "emb": self.mask("emb")})

    def kept(self, kind: str) -> tuple[tuple[int, ...], ...]:
        """Kept indices per layer; for "emb" one entry."""
        size = self.shape.gates(kind)[-1]
        rows = (self.emb,) if kind == "emb" else getattr(self, kind)
        return tuple(text_to_indices(text, size) for text in rows)

    def mask(self, kind: str) -> np.ndarray:
        """Boolean array of the shape of that kind's gates, True where a slice stays."""
        rows = np.zeros((len(self.kept(kind)), self.shape.gates(kind)[-1]), dtype=bool)
        for row, indices in zip(rows, self.kept(kind), strict=True):
            row[list(indices)] = True
        return rows[0] if kind == "emb" else rows

    def masks(self, kinds: Sequence[str] = ("attn", "ff", "emb")) -> Masks:
        """Hard 0/1 gates of the given kinds, as float32 tensors."""
        return Masks(**{kind: torch.from_numpy(self.mask(kind)).float() for kind in kinds})

    def counts(self, kind: str) -> tuple[int, ...]:
        """How many slices stay, per layer."""
        return tuple(map(len, self.kept(kind)))

    def removed(self, kind: str) -> float:
        """Percentage removed of one kind, as the paper's tables give it."""
        return float(100 * (1 - self.mask(kind).mean()))

    def encoder_parameters(self) -> int:
        """Weights in the encoder's layers: without embeddings and head."""
        d = len(self.kept("emb")[0])
        size = self.shape.head_size
        heads = sum(n * size * (4 * d + 3) for n in self.counts("attn"))
        activations = sum(n * (2 * d + 1) for n in self.counts("ff"))
        return heads + activations + self.shape.n_layers * 6 * d

    def macs(self, length: int) -> int:
        """Multiply-accumulates of the encoder's layers for one sequence of `length` tokens."""
        d = len(self.kept("emb")[0])
        size = self.shape.head_size
        per_head = length * 4 * d * size + 2 * length * length * size
        return sum(self.counts("attn")) * per_head + sum(self.counts("ff")) * 2 * d * length

    # --- combining and storing

    def combine(self, other: Topology) -> Topology:
        """Keep what both keep: attn of one run, ff of another.

        Raises:
            TopologyError: shapes differ.
        """
        self.check_fits(other.shape)
        both = {k: self.mask(k) & other.mask(k) for k in ("attn", "ff", "emb")}
        return self.from_masks(self.shape, both)

    def check_fits(self, shape: ModelShape) -> None:
        """Raise `TopologyError` unless the topology was made for a model of this shape."""
        if shape != self.shape:
            raise TopologyError(
                f"this topology was made for a model of {self.shape}; this one has {shape}"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write readable JSON, atomically."""
        write_atomically(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Topology:
        """Read what `save` wrote, or the `topology.json` of a pruned folder.

        Raises:
            TopologyError: no such file, not a topology, or one that contradicts itself.
        """
        try:
            return cls.model_validate_json(Path(path).read_text())
        except FileNotFoundError as error:
            raise TopologyError(f"{path}: no such file") from error
        except (ValidationError, UnicodeDecodeError, TopologyError) as error:
            raise TopologyError(f"{path}: not a topology: {error}") from error


def _per_kind(name: str, value: Any, kinds: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return dict.fromkeys(kinds, value)
    if set(value) != set(kinds):
        raise TopologyError(f"{name}={dict(value)} must name exactly the scored kinds {kinds}")
    return dict(value)


def _keep_share(scores: np.ndarray, removed: float) -> np.ndarray:
    if not 0 <= removed <= 1:
        raise TopologyError(f"fraction={removed} is the share to remove, between 0 and 1")
    count = int(np.floor(removed * scores.size + 0.5))
    keep = np.ones(scores.size, dtype=bool)
    keep[np.argsort(scores.ravel(), kind="stable")[:count]] = False
    return keep.reshape(scores.shape)
