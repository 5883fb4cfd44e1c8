"""L0 gates that are driven to a target instead of by a fixed λ, beyond the paper.

As Wang et al. (2020) and Xia et al. (2022): with s the share that the open gates are expected to
keep and t the share to keep, μ₁(s − t) + μ₂(s − t)² is added to the loss. The gates descend on it
and the multipliers μ ascend, so that they grow until the target is met. t falls from 1 in the
first part of the training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qaprune_lib.errors import SettingsError, real, short
from qaprune_lib.models import QuestionAnsweringModel, Topology, shape_of
from qaprune_lib.models.architecture import architecture_of
from qaprune_lib.models.choose import Budget
from qaprune_lib.scorers.scores import GateScores, check_kinds

Target = Mapping[str, float] | Budget
"""The share of each kind that is to be removed, or a budget of attn and ff together."""
RAMP = 0.5
"""Share of the training in which the target comes down."""


class Multipliers(nn.Module):
    """μ₁ and μ₂ of each goal, both [n_goals], trained by ascent."""

    def __init__(self, target: Target, model: QuestionAnsweringModel) -> None:
        super().__init__()
        self.goals = _goals(target, model)
        self.linear, self.square = (nn.Parameter(torch.zeros(len(self.goals))) for _ in range(2))

    def forward(self, open_gates: Mapping[str, Tensor], progress: float) -> Tensor:
        """What is added to the loss.

        Args:
            open_gates: P(open) of each gate by kind, 0 where there is no slice any more.
            progress: the share of the training that is done.
        """
        ramped = min(1.0, progress / RAMP)
        kept = torch.stack([share(open_gates) for share, _ in self.goals])
        wanted = torch.tensor([1 - ramped * (1 - to) for _, to in self.goals]).to(kept)
        gap = kept - wanted
        return (self.linear * gap + self.square * gap.square()).sum()


Share = Callable[[Mapping[str, Tensor]], Tensor]


def kinds_of(target: Target) -> list[str]:
    """The kinds of gates that a target is about.

    Raises:
        SettingsError: no target, an unknown kind, or a share that is none.
    """
    if not isinstance(target, Mapping):
        if not hasattr(target, "costs"):
            raise SettingsError(
                f'target={target!r} must be such as {{"attn": 0.5}}, or a budget such as MACs(0.5)'
            )
        return ["attn", "ff"]
    if not target:
        raise SettingsError('target= names no kind of gates; pass for instance {"attn": 0.5}')
    check_kinds(target)
    for kind, removed in target.items():
        if not 0 < real(removed) < 1:
            raise SettingsError(
                f"target {short(removed)} for {kind!r} must be the share to remove, between 0 and 1"
            )
    return list(target)


def check_target(target: Target, model: QuestionAnsweringModel) -> None:
    """Raise TopologyError, before anything is trained, if a model cannot meet a target."""
    shape = shape_of(model.config)
    zeros = {kind: np.zeros(shape.gates(kind)) for kind in kinds_of(target)}
    _cut(GateScores.of("l0", model, zeros, additive=False), target)


def at_target(scores: GateScores, target: Target) -> GateScores:
    """Scores moved by a constant, one for each share, so that the threshold 0 meets the target."""
    kept, moved, kinds = _cut(scores, target), {}, scores.kinds()
    for together in [[kind] for kind in kinds] if isinstance(target, Mapping) else [kinds]:
        values = np.concatenate([scores.get(kind).ravel() for kind in together])
        stays = np.concatenate([kept.mask(kind).ravel() for kind in together])
        last = values[~stays].max(initial=-math.inf)
        first = values[stays].min(initial=math.inf)
        between = [value for value in (last, first) if math.isfinite(value)]
        cut = sum(between) / len(between)
        for kind in together:
            values, stays = scores.get(kind) - cut, kept.mask(kind)
            # equal scores are cut by their place: they are told apart here
            moved[kind] = np.where(stays, np.maximum(values, 1e-9), np.minimum(values, 0.0))
    fields: dict[str, Any] = moved
    return replace(scores, **fields)


def _cut(scores: GateScores, target: Target) -> Topology:
    if isinstance(target, Mapping):
        return Topology.from_scores(scores, fraction=target)
    return Topology.from_scores(scores, budget=target)


def _goals(target: Target, model: QuestionAnsweringModel) -> list[tuple[Share, float]]:
    """Of each goal, how to get the share that is kept, and the share to keep."""
    if isinstance(target, Mapping):
        return [(_share_of_kind(kind), 1 - removed) for kind, removed in target.items()]
    topology, model_type = Topology.of(model), architecture_of(model.config).model_type
    costs = target.costs(topology, model_type)
    whole = Topology.full(topology.shape)
    of_whole = costs if not topology.removed("emb") else target.costs(whole, model_type)
    full = of_whole.total(*(np.array(whole.counts(kind)) for kind in ("attn", "ff")))
    tables = {kind: torch.tensor(getattr(costs, kind)) for kind in ("attn", "ff")}

    def share(open_gates: Mapping[str, Tensor]) -> Tensor:
        each = [
            _between(table.to(open_gates[kind]), open_gates[kind].sum(-1)).sum()
            for kind, table in tables.items()
        ]
        return (costs.fixed + torch.stack(each).sum()) / full

    return [(share, target.share)]


def _share_of_kind(kind: str) -> Share:
    return lambda open_gates: open_gates[kind].mean()


def _between(table: Tensor, counts: Tensor) -> Tensor:
    """Costs of counts that are no integers, linear between those of the table."""
    below = counts.detach().floor().long().clamp(0, len(table) - 2)
    return table[below] + (counts - below) * (table[below + 1] - table[below])
