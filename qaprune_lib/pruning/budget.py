"""Budgets: how many slices may stay if the encoder is to meet a size, MACs or a speed.

A budget is a cost of one attention block by its number of heads and of one feed-forward block by
its width. L0 runs give rankings; cut near the run's own sparsity they give a model of any size
there. Far beyond it the gates were never pressed and are not ordered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from qaprune_lib.errors import TopologyError
from qaprune_lib.models.shape import ModelShape
from qaprune_lib.scorers.scores import GateScores

if TYPE_CHECKING:
    from qaprune_lib.pruning.latency import LatencyTable


@dataclass(frozen=True)
class BlockCosts:
    """Cost of a model, as `fixed` + Σ attn[heads of a layer] + Σ ff[width of a layer].

    Attributes:
        attn: [n_heads + 1], non-decreasing, by the number of heads that stay.
        ff: [d_intermediate + 1], non-decreasing, by the number of activations that stay.
        fixed: what no gate of these kinds can remove.
    """

    attn: np.ndarray
    ff: np.ndarray
    fixed: float

    def total(self, heads: np.ndarray, activations: np.ndarray) -> float:
        """Cost at these counts per layer, integers [n_layers] each."""
        return float(self.fixed + self.attn[heads].sum() + self.ff[activations].sum())


class Budget(Protocol):
    """A share of the unpruned model's cost that may remain."""

    @property
    def share(self) -> float:
        """Share of the full cost that may remain, in (0, 1]."""
        ...

    def costs(self, shape: ModelShape) -> BlockCosts:
        """The costs of a model of this shape."""
        ...


@dataclass(frozen=True)
class Parameters:
    """Keep at most this share of the encoder's weights (embeddings and head do not count)."""

    share: float

    def costs(self, shape: ModelShape) -> BlockCosts:
        """Weights of each block, counted as in `Topology.encoder_parameters`."""
        d = shape.d_embedding
        return BlockCosts(
            attn=np.arange(shape.n_heads + 1) * shape.head_size * (4.0 * d + 3),
            ff=np.arange(shape.d_intermediate + 1) * (2.0 * d + 1),
            fixed=6.0 * d * shape.n_layers,
        )


@dataclass(frozen=True)
class MACs:
    """Keep at most this share of the encoder's multiply-accumulates at `length` tokens."""

    share: float
    length: int = 384

    def __post_init__(self) -> None:
        if self.length < 1:
            raise TopologyError(f"length={self.length} tokens must be at least 1")

    def costs(self, shape: ModelShape) -> BlockCosts:
        """Multiply-accumulates of each block, counted as in `Topology.macs`."""
        d, size, length = shape.d_embedding, shape.head_size, self.length
        per_head = 4.0 * length * d * size + 2.0 * length * length * size
        return BlockCosts(
            attn=np.arange(shape.n_heads + 1) * per_head,
            ff=np.arange(shape.d_intermediate + 1) * 2.0 * d * length,
            fixed=0.0,
        )


@dataclass(frozen=True)
class Speedup:
    """Be this many times as fast as the unpruned model, on the device at hand.

    Attributes:
        ratio: for instance 2.0.
        table: measured latencies; by default they are measured now, at `batch_size` x `length`.
    """

    ratio: float
    batch_size: int = 1
    length: int = 384
    table: LatencyTable | None = None

    @property
    def share(self) -> float:
        """Share of the time that may remain."""
        return 1 / self.ratio if self.ratio > 0 else float("nan")

    def costs(self, shape: ModelShape) -> BlockCosts:
        """Milliseconds of each block, from the table."""
        from qaprune_lib.pruning.latency import measure_latency

        table = self.table or measure_latency(shape, batch_size=self.batch_size, length=self.length)
        return table.costs(shape)


def threshold_for_budget(scores: GateScores, budget: Budget) -> dict[str, np.ndarray]:
    """Remove the least useful slices, of all kinds together, until the budget is met.

    Scores that estimate a loss count per unit of what a slice costs; L0's log-odds, which are net
    of their penalty already, count as they are.

    Returns:
        Boolean arrays of the scores' shapes, True where a slice stays.

    Raises:
        TopologyError: the budget is out of range or cannot be met by removing these slices.
    """
    kinds = scores.kinds()
    if "emb" in kinds:
        raise TopologyError("budgets weigh attn and ff; cut emb by threshold= or fraction=")
    if not 0 < budget.share <= 1:
        raise TopologyError(f"{budget} leaves a share of {budget.share}; it must be in (0, 1]")
    costs = budget.costs(scores.shape)
    tables = {"attn": costs.attn, "ff": costs.ff}
    ranked = []
    for kind in kinds:
        span = float(tables[kind][-1] - tables[kind][0])
        # a measured table can find no cost at all where blocks are tiny: those go last
        per_slice = max(span, 1e-9 * costs.total(*_full(scores.shape))) / (len(tables[kind]) - 1)
        values = scores.get(kind).ravel()
        ranked.append(values / per_slice if scores.additive else values)
    order = np.argsort(np.concatenate(ranked), kind="stable")

    def keep_after(n_removed: int) -> dict[str, np.ndarray]:
        flat = np.ones(len(order), dtype=bool)
        flat[order[:n_removed]] = False
        keep, start = {}, 0
        for kind in kinds:
            shape = scores.shape.gates(kind)
            keep[kind] = flat[start : start + int(np.prod(shape))].reshape(shape)
            start += int(np.prod(shape))
        return keep

    def cost_after(n_removed: int) -> float:
        keep = keep_after(n_removed)
        heads, activations = _full(scores.shape)
        return costs.total(
            keep["attn"].sum(-1) if "attn" in keep else heads,
            keep["ff"].sum(-1) if "ff" in keep else activations,
        )

    limit = budget.share * cost_after(0)
    if cost_after(len(order)) > limit:
        least = cost_after(len(order)) / cost_after(0)
        raise TopologyError(
            f"{budget} cannot be met: without all slices of {kinds} a share of {least:.3f} of "
            "the cost remains"
        )
    low, high = 0, len(order)  # cost_after does not rise: the first count that meets the limit
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if cost_after(middle) <= limit else (middle + 1, high)
    return keep_after(low)


def _full(shape: ModelShape) -> tuple[np.ndarray, np.ndarray]:
    """Heads and activations of each layer of the unpruned model."""
    return (
        np.full(shape.n_layers, shape.n_heads),
        np.full(shape.n_layers, shape.d_intermediate),
    )
