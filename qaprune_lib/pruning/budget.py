"""Budgets: the share of the unpruned encoder's weights, operations or time that may remain.

A budget is a cost of one attention block by its number of heads and of one feed-forward block by
its width; `Topology.from_scores(…, budget=…)` removes slices until it is met.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qaprune_lib.errors import TopologyError
from qaprune_lib.models.architecture import ModelShape
from qaprune_lib.models.choose import BlockCosts
from qaprune_lib.models.topology import Topology
from qaprune_lib.pruning.latency import LatencyTable, measure_latency


@dataclass(frozen=True)
class Parameters:
    """Keep at most this share of the encoder's weights (embeddings and head do not count).

    >>> shape = ModelShape(n_layers=2, n_heads=4, head_size=8, d_intermediate=6, d_embedding=32)
    >>> Parameters(0.5).costs(shape).fixed  # LayerNorms and output biases
    384.0
    """

    share: float

    def costs(self, shape: ModelShape) -> BlockCosts:
        """Weights of each block, as `Topology.encoder_parameters` counts them."""
        return _equal_steps(shape, Topology.encoder_parameters)


@dataclass(frozen=True)
class MACs:
    """Keep at most this share of the encoder's multiply-accumulates at `length` tokens.

    >>> from qaprune_lib import load_model, scorers
    >>> scores = scorers.random(load_model("embedded-small", layers=1, device="cpu"))
    >>> kept = Topology.from_scores(scores, budget=MACs(0.5))
    >>> kept.macs(384) <= 0.5 * Topology.full(kept.shape).macs(384)
    True
    """

    share: float
    length: int = 384

    def __post_init__(self) -> None:
        if self.length < 1:
            raise TopologyError(f"length={self.length} tokens must be at least 1")

    def costs(self, shape: ModelShape) -> BlockCosts:
        """Multiply-accumulates of each block, as `Topology.macs` counts them."""
        return _equal_steps(shape, lambda topology: topology.macs(self.length))


@dataclass(frozen=True)
class Speedup:
    """Be this many times as fast as the unpruned model, on the device at hand.

    Attributes:
        ratio: for instance 2.0.
        table: measured latencies; by default they are measured now, at `batch_size` x `length`.

    >>> shape = ModelShape(n_layers=2, n_heads=4, head_size=8, d_intermediate=6, d_embedding=32)
    >>> table = measure_latency(shape, length=16, repeats=1, device="cpu", progress=False)
    >>> Speedup(2.0, table=table).costs(shape).attn.shape  # milliseconds of 0 to 4 heads
    (5,)
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
        table = self.table or measure_latency(shape, batch_size=self.batch_size, length=self.length)
        return table.costs(shape)


def _equal_steps(shape: ModelShape, count: Callable[[Topology], int]) -> BlockCosts:
    """Costs to which every head adds the same, and every activation."""
    others, emb = ("",) * (shape.n_layers - 1), Topology.full(shape).emb

    def cost(heads: str, activations: str) -> int:
        attn, ff = (heads, *others), (activations, *others)
        return count(Topology(shape=shape, attn=attn, ff=ff, emb=emb))

    fixed = cost("", "")
    return BlockCosts(
        attn=np.arange(shape.n_heads + 1) * float(cost("0", "") - fixed),
        ff=np.arange(shape.d_intermediate + 1) * float(cost("", "0") - fixed),
        fixed=float(fixed),
    )
