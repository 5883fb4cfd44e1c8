"""`Topology`: which heads, activations and embedding dimensions a model keeps, layer by layer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from pydantic import model_validator
from transformers import PretrainedConfig, PreTrainedModel

from qaprune_lib.errors import TopologyError, counts
from qaprune_lib.models.architecture import shape_of
from qaprune_lib.models.choose import Budget, Scores, choose, round_counts
from qaprune_lib.models.saved import SavedValue
from qaprune_lib.models.shape import KINDS, ModelShape


class Topology(SavedValue):
    """Slices that stay, in the numbering of the unpruned model.

    Indices are kept as text, ascending ranges such as "0-2 5", so that the JSON stays small and
    readable; `kept` gives them as numbers. A topology applies to any checkpoint of the same shape:
    that is the paper's transfer of gates (section 4.3.1).

    >>> shape = ModelShape(n_layers=2, n_heads=4, head_size=8, d_intermediate=6, d_embedding=32)
    >>> heads = Topology(shape=shape, attn=("0-1 3", ""), ff=("0-5", "0-5"), emb="0-31")
    >>> heads.kept("attn"), heads.removed("attn"), heads.removed("ff")
    (((0, 1, 3), ()), 62.5, 0.0)

    Raises:
        TopologyError: indices outside of the shape, a wrong number of layers, no embedding
            dimension left.
    """

    called = "a topology"

    shape: ModelShape
    attn: tuple[str, ...]
    ff: tuple[str, ...]
    emb: str

    @model_validator(mode="after")
    def _check(self) -> Topology:
        for kind, layers in (("attn", self.attn), ("ff", self.ff)):
            if len(layers) != self.shape.n_layers:
                raise TopologyError(
                    f"{kind} lists {len(layers)} layers, the shape has {self.shape.n_layers}"
                )
            self.kept(kind)
        if not self.kept("emb")[0]:
            raise TopologyError("no embedding dimension is left")
        return self

    @classmethod
    def full(cls, shape: ModelShape) -> Topology:
        """Everything stays."""
        sizes = (shape.gates(kind)[-1] for kind in KINDS)
        attn, ff, emb = (f"0-{size - 1}" if size > 1 else "0" for size in sizes)
        return cls(shape=shape, attn=(attn,) * shape.n_layers, ff=(ff,) * shape.n_layers, emb=emb)

    @classmethod
    def of(cls, model: PreTrainedModel | PretrainedConfig) -> Topology:
        """What a model has now, as its configuration says: the one reading of a configuration.

        Raises:
            ModelError: an unsupported architecture.
            TopologyError: the configuration's topology is malformed, or contradicts its sizes.
        """
        config = model.config if isinstance(model, PreTrainedModel) else model
        shape, fields = shape_of(config), getattr(config, "topology", None)
        if fields is None:
            return cls.full(shape)
        if not isinstance(fields, Mapping):
            raise TopologyError(f"{fields!r} is not a topology")
        topology = cls(**fields)
        topology.check_fits(shape)
        return topology

    @classmethod
    def from_masks(cls, shape: ModelShape, keep: Mapping[str, np.ndarray]) -> Topology:
        """From boolean arrays of the shapes of `Masks`; kinds that are absent stay whole."""
        texts: dict[str, Any] = {}
        for kind, mask in keep.items():
            if kind not in KINDS or np.shape(mask) != shape.gates(kind):
                raise TopologyError(
                    f"mask {kind!r} of shape {list(np.shape(mask))} does not fit a model of {shape}"
                )
            rows = np.atleast_2d(np.asarray(mask, dtype=bool))
            texts[kind] = tuple(_to_text(np.flatnonzero(row).tolist()) for row in rows)
        if "emb" in texts:
            (texts["emb"],) = texts["emb"]
        return cls(**{**dict(cls.full(shape)), **texts})

    @classmethod
    def from_scores(
        cls,
        scores: Scores,
        *,
        threshold: float | Mapping[str, float] | None = None,
        fraction: float | Mapping[str, float] | None = None,
        budget: Budget | None = None,
        multiple_of: int | Mapping[str, int] | None = None,
    ) -> Topology:
        """Cut scores, in exactly one of three ways.

        Args:
            scores: `GateScores`; kinds that were not scored stay as the scored model had them.
            threshold: slices whose score is above it stay.
            fraction: this share of each kind is *removed*, the lowest scores over all layers: a
                share of the unpruned model's, so that slices which are gone already count.
            budget: slices are removed, the least useful first, until the encoder meets a budget
                (`Parameters`, `MACs` or `Speedup`): a share of the unpruned encoder, from what the
                scored model has. The kinds compete with each other.
            multiple_of: each layer's count is then rounded to the nearest multiple, adding or
                dropping the slices whose score is nearest to the cut.

        Raises:
            TopologyError: not exactly one way, or a value out of range.

        Warns:
            QapruneWarning: the fraction or the budget is met already.
        """
        keep = choose(scores, threshold=threshold, fraction=fraction, budget=budget)
        had = {kind: scores.topology.mask(kind) for kind in KINDS}
        topology = cls.from_masks(scores.topology.shape, {**had, **keep})
        return topology if multiple_of is None else topology.rounded(scores, multiple_of)

    def rounded(self, scores: Scores, multiple_of: int | Mapping[str, int]) -> Topology:
        """Each layer's count at the nearest multiple; scores decide which slices come or go."""
        keep = {kind: self.mask(kind) for kind in KINDS}
        return self.from_masks(self.shape, {**keep, **round_counts(keep, scores, multiple_of)})

    def combine(self, other: Topology) -> Topology:
        """Keep what both keep: attn of one run, ff of another.

        Raises:
            TopologyError: shapes differ.
        """
        self.check_fits(other.shape)
        both = {kind: self.mask(kind) & other.mask(kind) for kind in KINDS}
        return self.from_masks(self.shape, both)

    def shuffled(self, seed: int) -> Topology:
        """As many heads and activations in each layer, but others, drawn at random."""
        (seed,) = counts(least=0, seed=seed)
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
        return tuple(_to_indices(text, size) for text in rows)

    def embedding_places(self, other: Topology) -> list[int]:
        """Where its embedding dimensions stand among those of one that keeps them all."""
        (ours,), (theirs,) = self.kept("emb"), other.kept("emb")
        return [theirs.index(dimension) for dimension in ours]

    def mask(self, kind: str) -> np.ndarray:
        """Boolean array of the shape of that kind's gates, True where a slice stays."""
        kept = self.kept(kind)
        rows = np.zeros((len(kept), self.shape.gates(kind)[-1]), dtype=bool)
        for row, indices in zip(rows, kept, strict=True):
            row[list(indices)] = True
        return rows[0] if kind == "emb" else rows

    def counts(self, kind: str) -> tuple[int, ...]:
        """How many slices stay, per layer."""
        return tuple(map(len, self.kept(kind)))

    def removed(self, kind: str) -> float:
        """Percentage removed of one kind, as the paper's tables give it."""
        return float(100 * (1 - self.mask(kind).mean()))

    def encoder_parameters(self) -> int:
        """Weights in the encoder's layers, with BERT's biases: without embeddings and head."""
        (d,) = self.counts("emb")
        rows = 1 + self.shape.gated  # of an activation in the first projection
        heads = sum(self.counts("attn")) * self.shape.head_size * (4 * d + 3)
        activations = sum(self.counts("ff")) * (rows * (d + 1) + d)
        return heads + activations + self.shape.n_layers * 6 * d

    def macs(self, length: int) -> int:
        """Multiply-accumulates of the encoder's layers for one sequence of `length` tokens.

        Without those of DeBERTa's relative positions, which every head has too; ModernBERT's local
        attention counts as global.
        """
        (d,), size = self.counts("emb"), self.shape.head_size
        per_head = length * 4 * d * size + 2 * length * length * size
        per_activation = (2 + self.shape.gated) * d * length
        return sum(self.counts("attn")) * per_head + sum(self.counts("ff")) * per_activation

    def check_fits(self, shape: ModelShape) -> None:
        """Raise `TopologyError` unless the topology was made for a model of this shape."""
        if shape != self.shape:
            raise TopologyError(
                f"this topology was made for a model of {self.shape}; this one has {shape}"
            )


def _to_text(indices: Iterable[int]) -> str:
    """Ascending indices as ranges: [0, 1, 2, 5] becomes "0-2 5", [] becomes ""."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return " ".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)


@lru_cache(maxsize=256)  # a model's masks and costs are read layer by layer, again and again
def _to_indices(text: str, size: int) -> tuple[int, ...]:
    """Inverse of `_to_text`, for indices below `size`."""
    indices: list[int] = []
    for run in text.split():
        match = re.fullmatch("([0-9]+)(?:-([0-9]+))?", run)
        if match is None:
            raise TopologyError(f"{run[:40]!r} is not an index or a range of indices such as 3-7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or (indices and first <= indices[-1]):
            raise TopologyError(
                f"indices {text[:40]!r} are not in ascending order without repetition"
            )
        if last >= size:
            raise TopologyError(f"index {last} is outside of a size of {size}")
        indices.extend(range(first, last + 1))
    return tuple(indices)
