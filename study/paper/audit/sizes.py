"""Audit of Table 2's sizes and percentages: are they of the same models?"""

from __future__ import annotations

from study.paper.audit.item import AuditItem, Check
from study.paper.published import TABLE_2, SquadRow
from study.paper.released import BERT_LARGE, Released

UNPRUNED = TABLE_2.row("no pruning")
ATTN_ONLY = TABLE_2.row("attn_1")
FF_ONLY = TABLE_2.row("ff_1")
BOTH = TABLE_2.row("ff_1 + attn_1")

HALF_A_DIGIT = 0.05
"""Percentages are printed to one decimal."""


def _pruned(row: SquadRow, model: Released = BERT_LARGE) -> Released:
    return model.pruned(row.attn_removed / 100, row.ff_removed / 100)


def sizes(*, pooler: bool = True) -> AuditItem:
    """Sizes from the percentages removed and BERT-large's dimensions."""
    model = BERT_LARGE.model_copy(update={"pooler": pooler})
    return AuditItem(
        name="sizes",
        statement="Sizes follow from the percentages removed within 1%",
        whose="audit",
        sources=("Table 2",),
        unit="MiB",
        checks=tuple(
            Check(
                label=row.model,
                published=row.mebibytes,
                computed=_pruned(row, model).mebibytes,
                tolerance=1,
                relative=True,
            )
            for row in TABLE_2.rows
        ),
        note="BERT-large in float32, the pooler counted although span prediction does not use it.",
    )


def pooler() -> AuditItem:
    """Whether the unpruned size counts the pooler."""
    return AuditItem(
        name="pooler",
        statement="The unpruned size is that of a model with its pooler, to a MiB",
        whose="audit",
        sources=("Table 2",),
        unit="MiB",
        checks=(
            Check(
                label=UNPRUNED.model,
                published=UNPRUNED.mebibytes,
                computed=BERT_LARGE.mebibytes,
                tolerance=1,
            ),
        ),
        note="A file is somewhat larger than its parameters. Present versions of transformers "
        "leave the pooler out, which makes the same model smaller.",
    )


def sizes_to_rounding() -> AuditItem:
    """Whether size and percentages of a row can be of one model."""
    checks = []
    for row in TABLE_2.rows[1:]:
        slack = (
            _pruned(row).mebibytes
            - BERT_LARGE.pruned(
                (row.attn_removed + HALF_A_DIGIT * (row.attn_removed > 0)) / 100,
                (row.ff_removed + HALF_A_DIGIT * (row.ff_removed > 0)) / 100,
            ).mebibytes
        )
        checks.append(
            Check(
                label=row.model,
                published=UNPRUNED.mebibytes - row.mebibytes,
                computed=BERT_LARGE.mebibytes - _pruned(row).mebibytes,
                tolerance=slack + 1,  # both sizes are printed to a MiB
            )
        )
    return AuditItem(
        name="sizes_to_rounding",
        statement="The MiB removed follow from the percentages removed to the rounding of both",
        whose="audit",
        sources=("Table 2",),
        unit="MiB",
        checks=tuple(checks),
        note="Rows are medians over seeds, so that the columns of one row may be of several "
        "models.",
    )


def heads_attainable() -> AuditItem:
    """Percentages of heads as whole heads of all."""
    heads = BERT_LARGE.n_layers * BERT_LARGE.n_heads
    return AuditItem(
        name="heads_attainable",
        statement=f"Percentages of heads removed are whole numbers of {heads} heads",
        whose="audit",
        sources=("Table 2",),
        unit="percent",
        checks=tuple(
            Check(
                label=row.model,
                published=row.attn_removed,
                computed=100 * round(row.attn_removed / 100 * heads) / heads,
                tolerance=HALF_A_DIGIT,
            )
            for row in TABLE_2.rows
            if row.attn_removed
        ),
        note="A median of five seeds is one of them; a mean would not be a whole number of heads.",
    )


def one_topology() -> AuditItem:
    """The combined model is made of the gates of the two before it."""
    return AuditItem(
        name="one_topology",
        statement="The combined model removes what its two independently trained parts remove",
        whose="audit",
        sources=("Table 2", "Section 4.2.3"),
        unit="percent",
        checks=(
            Check(label="heads", published=ATTN_ONLY.attn_removed, computed=BOTH.attn_removed),
            Check(label="activations", published=FF_ONLY.ff_removed, computed=BOTH.ff_removed),
        ),
        note="One head is about 0.3%; the median seeds of the two rows may differ.",
    )
