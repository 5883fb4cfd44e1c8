"""Which slices stay, by their scores: by a threshold, a share to remove, or a budget.

L0's rankings hold near the run's own sparsity; far beyond it gates were never pressed nor ordered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qaprune_lib.errors import TopologyError, counts, real, short, warn

if TYPE_CHECKING:
    from qaprune_lib.models.topology import Topology

Keep = dict[str, np.ndarray]  # of each scored kind: True where a slice stays


class Scores(Protocol):
    """What is cut, as `GateScores`: higher means keep; the topology says what there is to cut.

    Additive scores estimate a loss, so that a budget weighs them by what a slice costs.
    """

    @property
    def topology(self) -> Topology: ...  # noqa: D102
    @property
    def model_type(self) -> str: ...  # noqa: D102
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
    """A share in (0, 1] of the cost of the unpruned model that may remain, and what blocks cost.

    Costs are those of blocks at the embedding dimensions that a topology keeps.
    """

    @property
    def share(self) -> float: ...  # noqa: D102
    def costs(self, topology: Topology, model_type: str) -> BlockCosts: ...  # noqa: D102


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
        return {kind: _without_share(scores, kind, shares[kind]) for kind in kinds}
    cuts = _per_kind("threshold", threshold, kinds)
    if any(np.isnan(real(cut)) for cut in cuts.values()):
        raise TopologyError(f"threshold={short(threshold)} is not a number")
    return {kind: _present(scores, kind) > cuts[kind] for kind in kinds}


def round_counts(keep: Keep, scores: Scores, multiple_of: int | Mapping[str, int]) -> Keep:
    """Each layer's count at the nearest multiple; scores decide which slices come or go.

    Raises:
        SettingsError: a multiple that is no integer of at least 1.
    """
    steps = _per_kind("multiple_of", multiple_of, scores.kinds())
    wholes = counts(**{f"multiple_of ({kind})": step for kind, step in steps.items()})
    rounded = {}
    for kind, step in zip(steps, wholes, strict=True):
        target = np.zeros_like(np.atleast_2d(keep[kind]))
        rows = zip(
            np.atleast_2d(keep[kind]), np.atleast_2d(_present(scores, kind)), target, strict=True
        )
        for row, values, to in rows:
            nearest = int(np.floor(row.sum() / step + 0.5)) * step
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


def _present(scores: Scores, kind: str) -> np.ndarray:
    """Scores of a kind, −inf where there is no slice any more."""
    return np.where(scores.topology.mask(kind), scores.get(kind), -np.inf)


def _without_share(scores: Scores, kind: str, removed: float) -> np.ndarray:
    if not 0 <= (share := real(removed)) <= 1:
        raise TopologyError(f"fraction={short(removed)} is the share to remove, between 0 and 1")
    values = _present(scores, kind)
    keep = scores.topology.mask(kind)
    n_gone, n_removed = int((~keep).sum()), int(np.floor(share * keep.size + 0.5))
    if n_gone and n_removed <= n_gone:
        _say_met(f"fraction={removed} of {kind}", f"{n_gone} of {keep.size} are gone")
    keep.flat[np.argsort(values.ravel(), kind="stable")[:n_removed]] = False
    return keep


def _say_met(asked: str, have: str) -> None:
    # to the caller of Topology.from_scores
    warn(f"{asked} is met already: {have}; nothing more is removed")


def _within(scores: Scores, budget: Budget) -> Keep:
    """Remove the least useful slices, of all kinds together, until the budget is met.

    Scores that estimate a loss count per unit of what a slice costs; L0's log-odds, which are net
    of their penalty already, count as they are.
    """
    kinds, topology = scores.kinds(), scores.topology
    if "emb" in kinds:
        raise TopologyError("budgets weigh attn and ff; cut emb by threshold= or fraction=")
    if not 0 < (share := real(getattr(budget, "share", budget))) <= 1:
        raise TopologyError(f"{budget!r:.300} leaves a share of {share}; it must be in (0, 1]")
    if not hasattr(budget, "costs"):
        raise TopologyError(
            f"budget={budget!r:.80} does not say of what: pass Parameters, MACs or Speedup"
        )
    costs = budget.costs(topology, scores.model_type)
    tables = {"attn": costs.attn, "ff": costs.ff}
    have = {kind: topology.mask(kind) for kind in tables}
    full = _unpruned_cost(scores, budget, costs)

    def cost(keep: Keep) -> float:
        return costs.total(*({**have, **keep}[kind].sum(-1) for kind in tables))

    ranked = []
    for kind in kinds:
        table, values = tables[kind], _present(scores, kind).ravel()
        # a measured table can find no cost at all where blocks are tiny: those go last
        per_slice = max(float(table[-1] - table[0]), 1e-9 * full) / (len(table) - 1)
        ranked.append(values / per_slice if scores.additive else values)
    order = np.argsort(np.concatenate(ranked), kind="stable")

    def keep_after(n_removed: int) -> Keep:
        flat = np.concatenate([have[kind].ravel() for kind in kinds])
        flat[order[:n_removed]] = False
        parts = np.split(flat, np.cumsum([have[kind].size for kind in kinds])[:-1])
        return {k: part.reshape(have[k].shape) for k, part in zip(kinds, parts, strict=True)}

    limit, possible = share * full, range(len(order) + 1)
    # the cost does not rise with what is removed: the first count that meets the limit
    n_removed = bisect_left(possible, True, key=lambda count: cost(keep_after(count)) <= limit)
    if n_removed not in possible:
        raise TopologyError(
            f"{budget} cannot be met: without all slices of {kinds} a share of "
            f"{cost(keep_after(len(order))) / full:.3f} of the unpruned model's cost remains"
        )
    if n_removed == 0 and share < 1:
        now = cost(have) / full
        _say_met(str(budget), f"the model has a share of {now:.3f} of the unpruned one's cost")
    return keep_after(n_removed)


def _unpruned_cost(scores: Scores, budget: Budget, costs: BlockCosts) -> float:
    whole = type(scores.topology).full(scores.topology.shape)
    if scores.topology.removed("emb"):
        costs = budget.costs(whole, scores.model_type)
    return costs.total(*(np.array(whole.counts(kind)) for kind in ("attn", "ff")))
