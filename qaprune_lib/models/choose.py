"""Which slices stay, by their scores: by a threshold, a share to remove, or a budget.

L0's rankings hold near the run's own sparsity; far beyond it gates were never pressed nor ordered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from qaprune_lib.errors import TopologyError
from qaprune_lib.models.architecture import ModelShape

Keep = dict[str, np.ndarray]  # of each scored kind: True where a slice stays


class Scores(Protocol):
    """What is cut, as `GateScores`: higher means keep, −inf where there is no slice any more.

    Additive scores estimate a loss, so that a budget weighs them by what a slice costs.
    """

    @property
    def shape(self) -> ModelShape: ...  # noqa: D102
    @property
    def additive(self) -> bool: ...  # noqa: D102
    def kinds(self) -> list[str]: ...  # noqa: D102
    def get(self, kind: str) -> np.ndarray: ...  # noqa: D102


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
    """A share in (0, 1] of the cost of an unpruned model that may remain, and these costs."""

    @property
    def share(self) -> float: ...  # noqa: D102
    def costs(self, shape: ModelShape) -> BlockCosts: ...  # noqa: D102


def choose(
    scores: Scores,
    *,
    threshold: float | Mapping[str, float] | None = None,
    fraction: float | Mapping[str, float] | None = None,
    budget: Budget | None = None,
) -> Keep:
    """Cut scores, in exactly one of three ways; arguments as for `Topology.from_scores`.

    Raises:
        TopologyError: not exactly one way, or a value out of range.
    """
    if sum(choice is not None for choice in (threshold, fraction, budget)) != 1:
        raise TopologyError("pass exactly one of threshold=, fraction= and budget=")
    kinds = scores.kinds()
    if budget is not None:
        return _within(scores, budget)
    if fraction is not None:
        shares = _per_kind("fraction", fraction, kinds)
        return {kind: _without_share(scores.get(kind), shares[kind]) for kind in kinds}
    cuts = _per_kind("threshold", threshold, kinds)
    if any(np.isnan(cut) for cut in cuts.values()):
        raise TopologyError(f"threshold={threshold} is not a number")
    return {kind: scores.get(kind) > cuts[kind] for kind in kinds}


def round_counts(keep: Keep, scores: Scores, multiple_of: int | Mapping[str, int]) -> Keep:
    """Each layer's count at the nearest multiple; scores decide which slices come or go.

    Raises:
        TopologyError: a multiple below 1.
    """
    steps = _per_kind("multiple_of", multiple_of, scores.kinds())
    if any(step < 1 for step in steps.values()):
        raise TopologyError(f"multiple_of={multiple_of} must be at least 1")
    rounded = {}
    for kind, step in steps.items():
        target = np.zeros_like(np.atleast_2d(keep[kind]))
        rows = zip(np.atleast_2d(keep[kind]), np.atleast_2d(scores.get(kind)), target, strict=True)
        for row, values, to in rows:
            nearest = int(np.floor(row.sum() / step + 0.5)) * int(step)
            count = min(nearest, int(np.isfinite(values).sum()))
            order = np.argsort(-values, kind="stable")
            kept_first = order[np.argsort(~row[order], kind="stable")]
            to[kept_first[:count]] = True
        rounded[kind] = target.reshape(keep[kind].shape)
    return rounded


def _per_kind(name: str, value: Any, kinds: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return dict.fromkeys(kinds, value)
    if set(value) != set(kinds):
        raise TopologyError(f"{name}={dict(value)} must name exactly the scored kinds {kinds}")
    return dict(value)


def _without_share(scores: np.ndarray, removed: float) -> np.ndarray:
    if not 0 <= removed <= 1:
        raise TopologyError(f"fraction={removed} is the share to remove, between 0 and 1")
    keep = np.ones(scores.size, dtype=bool)
    n_removed = int(np.floor(removed * scores.size + 0.5))
    keep[np.argsort(scores.ravel(), kind="stable")[:n_removed]] = False
    return keep.reshape(scores.shape)


def _within(scores: Scores, budget: Budget) -> Keep:
    """Remove the least useful slices, of all kinds together, until the budget is met.

    Scores that estimate a loss count per unit of what a slice costs; L0's log-odds, which are net
    of their penalty already, count as they are.
    """
    kinds, shape = scores.kinds(), scores.shape
    if "emb" in kinds:
        raise TopologyError("budgets weigh attn and ff; cut emb by threshold= or fraction=")
    if not 0 < budget.share <= 1:
        raise TopologyError(f"{budget} leaves a share of {budget.share}; it must be in (0, 1]")
    costs = budget.costs(shape)
    tables = {"attn": costs.attn, "ff": costs.ff}
    whole = {kind: np.ones(shape.gates(kind), dtype=bool) for kind in tables}

    def cost(keep: Keep) -> float:
        return costs.total(*({**whole, **keep}[kind].sum(-1) for kind in tables))

    full = cost(whole)
    ranked = []
    for kind in kinds:
        table, values = tables[kind], scores.get(kind).ravel()
        # a measured table can find no cost at all where blocks are tiny: those go last
        per_slice = max(float(table[-1] - table[0]), 1e-9 * full) / (len(table) - 1)
        ranked.append(values / per_slice if scores.additive else values)
    order = np.argsort(np.concatenate(ranked), kind="stable")

    def keep_after(n_removed: int) -> Keep:
        flat = np.ones(len(order), dtype=bool)
        flat[order[:n_removed]] = False
        parts = np.split(flat, np.cumsum([whole[kind].size for kind in kinds])[:-1])
        return {k: part.reshape(shape.gates(k)) for k, part in zip(kinds, parts, strict=True)}

    limit, counts = budget.share * full, range(len(order) + 1)
    # the cost does not rise with what is removed: the first count that meets the limit
    n_removed = bisect_left(counts, True, key=lambda count: cost(keep_after(count)) <= limit)
    if n_removed not in counts:
        raise TopologyError(
            f"{budget} cannot be met: without all slices of {kinds} a share of "
            f"{cost(keep_after(len(order))) / full:.3f} of the cost remains"
        )
    return keep_after(n_removed)
