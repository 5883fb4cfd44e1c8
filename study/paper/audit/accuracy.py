"""Audit of Table 2's accuracies: what pruning costs and what retraining gives back."""

from __future__ import annotations

from itertools import pairwise

from qaprune_lib.errors import RecordError
from study.paper.audit.item import AuditItem, Check
from study.paper.published import TABLE_2, SquadRow
from study.paper.published_text import TEXT

UNPRUNED = TABLE_2.row("no pruning")
ATTN_ONLY = TABLE_2.row("attn_1")
FF_ONLY = TABLE_2.row("ff_1")
BOTH = TABLE_2.row("ff_1 + attn_1")
RETRAINED = tuple(row for row in TABLE_2.rows if row.retrained)


def _not_retrained(row: SquadRow) -> float:
    if row.f1_no_retrain is None:
        raise RecordError(f"{row.model} has no F1 without retraining")
    return row.f1_no_retrain


def squad_loss() -> AuditItem:
    """The abstract's loss on SQuAD 2.0, at the point of its speed."""
    return AuditItem(
        name="squad_loss",
        statement="At that speed less than 1.5 F1 points are lost",
        whose="paper",
        sources=("Abstract", "Section 4.2.3", "Table 2"),
        unit="F1 points",
        checks=(
            Check(
                label=RETRAINED[1].model,
                relation="less than",
                published=TEXT["squad_loss_below"].value,
                computed=UNPRUNED.f1 - RETRAINED[1].f1,
            ),
        ),
    )


def recovered() -> AuditItem:
    """Share of the lost F1 that one more epoch recovers."""
    return AuditItem(
        name="recovered",
        statement="One more epoch recovers much of the loss: at least half of it",
        whose="paper",
        sources=("Table 2", "Section 4.2.3"),
        unit="share of the loss",
        checks=tuple(
            Check(
                label=row.model,
                relation="at least",
                published=0.5,
                computed=(row.f1 - _not_retrained(row)) / (UNPRUNED.f1 - _not_retrained(row)),
            )
            for row in RETRAINED
        ),
        note="The unpruned model had no further epoch to compare with.",
    )


def without_retraining() -> AuditItem:
    """F1 without retraining along the multiples of λ."""
    f1 = [UNPRUNED.f1, *map(_not_retrained, RETRAINED)]
    steps = tuple(
        Check(label=row.model, relation="less than", published=before, computed=after)
        for row, (before, after) in zip(RETRAINED, pairwise(f1), strict=True)
    )
    last = Check(
        label=f"loss at {RETRAINED[-1].model}",
        relation="at least",
        published=10,
        computed=f1[0] - f1[-1],
    )
    return AuditItem(
        name="without_retraining",
        statement="Without retraining accuracy falls substantially as more is pruned",
        whose="paper",
        sources=("Table 2", "Section 4.2.3"),
        unit="F1 points",
        checks=(*steps, last),
        note="Substantially: ten points or more at the end.",
    )


def gates_combine() -> AuditItem:
    """Loss of both kinds of gates together against the sum of each alone."""
    alone = (UNPRUNED.f1 - ATTN_ONLY.f1) + (UNPRUNED.f1 - FF_ONLY.f1)
    return AuditItem(
        name="gates_combine",
        statement="Gates of heads and activations combine easily: their losses add up to 1 point",
        whose="paper",
        sources=("Table 2", "Section 5"),
        unit="F1 points",
        checks=(
            Check(
                label="loss of both against the sum of each alone",
                published=alone,
                computed=UNPRUNED.f1 - BOTH.f1,
                tolerance=1,
            ),
        ),
    )


def large_less_than_base() -> AuditItem:
    """Shares removed from large-qa and base-qa at the operating point."""
    return AuditItem(
        name="large_less_than_base",
        statement="At the same penalties large-qa is pruned somewhat less than base-qa",
        whose="paper",
        sources=("Table 2", "Section 4.2.2", "Section 4.2.3"),
        unit="percent",
        checks=(
            Check(
                label="heads",
                relation="less than",
                published=TEXT["heads_removable"].value,
                computed=ATTN_ONLY.attn_removed,
            ),
            Check(
                label="activations",
                relation="less than",
                published=TEXT["activations_removable"].value,
                computed=FF_ONLY.ff_removed,
            ),
        ),
        note="If the percentages that section 4.2.2 gives for base-qa are of the selected "
        "penalties, which it does not say.",
    )
