"""An audit of the paper's own tables: what follows from its numbers, without any run.

Each item is a function of no arguments that computes an `AuditItem` from the numbers of
`study.paper.published` and the dimensions of the released models. Imports without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from study.paper.audit import accuracy, baselines, natural_questions, sizes, smaller, times
from study.paper.audit.item import AuditItem, Check

if TYPE_CHECKING:
    import pandas as pd

ITEMS: tuple[Callable[[], AuditItem], ...] = (
    sizes.sizes,
    sizes.pooler,
    sizes.sizes_to_rounding,
    sizes.heads_attainable,
    sizes.one_topology,
    times.decoding_time,
    times.noise,
    times.time_constant,
    times.speed_not_proportional,
    times.squad_speed,
    accuracy.squad_loss,
    accuracy.recovered,
    accuracy.without_retraining,
    accuracy.gates_combine,
    accuracy.large_less_than_base,
    baselines.parameters_of_bert,
    baselines.parameters_of_roberta,
    baselines.gaps,
    baselines.bert_large_on_nq,
    baselines.roberta_lead,
    baselines.transfer_against_small,
    baselines.text_and_tables,
    natural_questions.transfer_percentages,
    natural_questions.same_penalty,
    natural_questions.rounded_sizes,
    natural_questions.distillation_gain,
    natural_questions.stated_gain,
    natural_questions.nq_speed,
    natural_questions.nq_loss,
    natural_questions.nq_loss_on_long_answers,
    natural_questions.nq_loss_and_spread,
    natural_questions.parameters_and_time,
    smaller.base_against_large,
    smaller.base_against_large_otherwise,
    smaller.pruned_base_against_large,
    smaller.pruning_costs_accuracy,
    smaller.objective_of_pruning,
)


def audit() -> tuple[AuditItem, ...]:
    """Every item, in the order of the paper's tables."""
    return tuple(item() for item in ITEMS)


def audit_frame(items: Iterable[AuditItem]) -> pd.DataFrame:
    """One row a check, with its item's name, statement and unit beside it."""
    import pandas as pd

    return pd.DataFrame(
        [
            {"item": item.name, "statement": item.statement}
            | check.model_dump()
            | {"unit": check.unit or item.unit}
            for item in items
            for check in item.checks
        ]
    )


def nearest_to_failing(item: AuditItem) -> str:
    """The comparison that decides an item, in words."""
    worst = item.worst
    gap = f"{worst.deviation:+.3g}{'%' * worst.relative}".replace("-", "−")
    return (
        f"{worst.label}: expected {_bound(worst)}{worst.published:.4g}, found {worst.computed:.4g} "
        f"{worst.unit or item.unit} ({gap})"
    )


def _bound(check: Check) -> str:
    return "" if check.relation == "equals" else f"{check.relation} "


__all__ = ["ITEMS", "AuditItem", "Check", "audit", "audit_frame", "nearest_to_failing"]
