"""Budgets: the share of the unpruned encoder's weights, operations or time that may remain.

A budget is a cost of one attention block by its number of heads and of one feed-forward block by
its width; `Topology.from_scores(…, budget=…)` removes slices until it is met. What the scored model
has lost already counts, embedding dimensions included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from qaprune_lib.errors import TopologyError, counts, real
from qaprune_lib.models.choose import BlockCosts
from qaprune_lib.models.pruned import ComputeDtype
from qaprune_lib.models.topology import Topology
from qaprune_lib.pruning.latency import LatencyTable, measure_latency


@dataclass(frozen=True)
class Parameters:
    """Keep at most this share of the encoder's weights (embeddings and head do not count).

    >>> from qaprune_lib.models import ModelShape
    >>> shape = ModelShape(n_layers=2, n_heads=4, head_size=8, d_intermediate=6, d_embedding=32)
    >>> Parameters(0.5).costs(Topology.full(shape), "bert").fixed  # LayerNorms, output biases
    384.0
    """

    share: float

    def costs(self, topology: Topology, _: str) -> BlockCosts:
        """Weights of each block, as `Topology.encoder_parameters` counts them."""
        return _equal_steps(topology, Topology.encoder_parameters)


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
        (length,) = counts(length=self.length)
        object.__setattr__(self, "length", length)

    def costs(self, topology: Topology, _: str) -> BlockCosts:
        """Multiply-accumulates of each block, as `Topology.macs` counts them."""
        return _equal_steps(topology, lambda kept: kept.macs(self.length))


@dataclass(frozen=True)
class Speedup:
    """Be this many times as fast as the unpruned model, on the device at hand.

    Attributes:
        ratio: for instance 2.0.
        table: measured latencies; by default they are measured now, at `batch_size` x `length`,
            of the architecture that was scored. Of a model that lost embedding dimensions those at
            what it kept are measured too.
        compute_dtype: that the model will compute in, as in `load_model`.

    >>> from qaprune_lib.models import ModelShape
    >>> shape = ModelShape(n_layers=2, n_heads=4, head_size=8, d_intermediate=6, d_embedding=32)
    >>> table = measure_latency(shape, length=16, repeats=1, device="cpu", progress=False)
    >>> costs = Speedup(2.0, table=table).costs(Topology.full(shape), "bert")
    >>> costs.attn.shape  # milliseconds of 0 to 4 heads
    (5,)
    """

    ratio: float
    batch_size: int = 1
    length: int = 384
    table: LatencyTable | None = field(default=None, repr=False)
    compute_dtype: ComputeDtype = "float32"

    @property
    def share(self) -> float:
        """Share of the time that may remain."""
        ratio = real(self.ratio)
        return 1 / ratio if ratio > 0 else float("nan")

    def costs(self, topology: Topology, model_type: str) -> BlockCosts:
        """Milliseconds of each block, from the table.

        Raises:
            TopologyError: a table of another architecture or shape.
        """
        table, (embedding,) = self.table, topology.counts("emb")
        if table is not None and table.model_type != model_type:
            raise TopologyError(
                f"these latencies were measured for {table.model_type!r}; this is {model_type!r}"
            )
        if table is None or embedding < table.embedding:
            sizes = table or self
            table = measure_latency(
                topology.shape,
                model_type=model_type,
                embedding=embedding,
                batch_size=sizes.batch_size,
                length=sizes.length,
                compute_dtype=sizes.compute_dtype,
            )
        return table.costs(topology)


def _equal_steps(topology: Topology, count: Callable[[Topology], int]) -> BlockCosts:
    """Costs to which every head adds the same, and every activation."""
    shape, emb = topology.shape, topology.emb
    others = ("",) * (shape.n_layers - 1)

    def cost(heads: str, activations: str) -> int:
        attn, ff = (heads, *others), (activations, *others)
        return count(Topology(shape=shape, attn=attn, ff=ff, emb=emb))

    fixed = cost("", "")
    return BlockCosts(
        attn=np.arange(shape.n_heads + 1) * float(cost("0", "") - fixed),
        ff=np.arange(shape.d_intermediate + 1) * float(cost("", "0") - fixed),
        fixed=float(fixed),
    )
