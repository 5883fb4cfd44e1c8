"""Audit of Table 2, the pruned large-qa on SQuAD 2.0: do its columns agree with one another?"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from qaprune_lib.report.audit_item import AuditItem, Check
from qaprune_lib.report.published import TABLE_2, SquadRow
from qaprune_lib.report.published_text import TEXT
from qaprune_lib.report.released import BERT_LARGE, Released

UNPRUNED = TABLE_2.row("no pruning")
ATTN_ONLY = TABLE_2.row("attn_1")
FF_ONLY = TABLE_2.row("ff_1")
BOTH = TABLE_2.row("ff_1 + attn_1")
RETRAINED = tuple(row for row in TABLE_2.rows if row.retrained)
TWICE = RETRAINED[1]

HALF_A_DIGIT = 0.05
"""Percentages and F1 are printed to one decimal."""
NEARLY_DOUBLE = 0.1
"""A speed-up of 1.9 or more counts as the paper's "nearly doubles"."""
SQUAD_TOKENS = 384
"""Window length, common practice on SQuAD; the paper does not print its own."""


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


class TimeFit(BaseModel):
    """Decoding seconds t = constant + attn·(1−a) + ff·(1−f), with a and f the shares removed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    constant: float
    attn: float
    ff: float

    def seconds(self, row: SquadRow) -> float:
        """What the fit predicts for a row."""
        attn, ff = row.attn_removed / 100, row.ff_removed / 100
        return self.constant + self.attn * (1 - attn) + self.ff * (1 - ff)


def fit_decoding_time() -> TimeFit:
    """The time model that passes through the unpruned, the attn-only and the ff-only row."""
    attn = (UNPRUNED.seconds - ATTN_ONLY.seconds) / (ATTN_ONLY.attn_removed / 100)
    ff = (UNPRUNED.seconds - FF_ONLY.seconds) / (FF_ONLY.ff_removed / 100)
    return TimeFit(constant=UNPRUNED.seconds - attn - ff, attn=attn, ff=ff)


def decoding_time() -> AuditItem:
    """Predictions of the time model for the retrained rows, which it has not seen."""
    fit = fit_decoding_time()
    return AuditItem(
        name="decoding_time",
        statement="Time is linear in what is kept: three rows predict the retrained ones to 1.5%",
        whose="audit",
        sources=("Table 2",),
        unit="seconds",
        checks=tuple(
            Check(
                label=row.model,
                published=row.seconds,
                computed=fit.seconds(row),
                tolerance=1.5,
                relative=True,
            )
            for row in RETRAINED
        ),
        note="The row that is pruned but not retrained, the same topology, is left to `noise`.",
    )


def noise() -> AuditItem:
    """Two timings of one topology."""
    again = RETRAINED[0]
    return AuditItem(
        name="noise",
        statement="Two timings of one topology agree as well as the time model predicts: to 1.5%",
        whose="audit",
        sources=("Table 2",),
        unit="seconds",
        checks=(
            Check(
                label=f"{BOTH.model}, with and without retraining",
                published=again.seconds,
                computed=BOTH.seconds,
                tolerance=1.5,
                relative=True,
            ),
        ),
        note="Both are medians of five runs; retraining does not change the computation.",
    )


def time_constant() -> AuditItem:
    """The part of the decoding time that pruning cannot remove."""
    design = np.array(
        [[1, 1 - row.attn_removed / 100, 1 - row.ff_removed / 100] for row in TABLE_2.rows]
    )
    seconds = np.array([row.seconds for row in TABLE_2.rows])
    squares, residual, *_ = np.linalg.lstsq(design, seconds)
    variance = residual[0] / (len(seconds) - design.shape[1])
    error = float(np.sqrt(variance * np.linalg.inv(design.T @ design)[0, 0]))
    by_label = {
        "from three rows": fit_decoding_time().constant,
        "least squares over all rows": float(squares[0]),
        "the same less two standard errors": float(squares[0]) - 2 * error,
    }
    return AuditItem(
        name="time_constant",
        statement="Some of the decoding time is left however much is pruned",
        whose="paper",
        sources=("Table 2", "Section 4.2.3"),
        unit="seconds",
        checks=tuple(
            Check(label=label, relation="at least", published=0, computed=constant)
            for label, constant in by_label.items()
        ),
    )


def speed_not_proportional() -> AuditItem:
    """Speed-ups against what the multiplications removed promise."""
    full = BERT_LARGE.macs(SQUAD_TOKENS)
    return AuditItem(
        name="speed_not_proportional",
        statement="The speed-up is less than what is pruned would promise",
        whose="paper",
        sources=("Table 2", "Section 4.2.3"),
        unit="times faster",
        checks=tuple(
            Check(
                label=row.model,
                relation="less than",
                published=full / _pruned(row).macs(SQUAD_TOKENS),
                computed=UNPRUNED.seconds / row.seconds,
                relative=True,
            )
            for row in RETRAINED
        ),
        note=f"Compared with the ratio of MACs in windows of {SQUAD_TOKENS} tokens, which is ours.",
    )


def squad_speed() -> AuditItem:
    """The abstract's speed on SQuAD 2.0."""
    return AuditItem(
        name="squad_speed",
        statement="Pruning nearly doubles the decoding speed on SQuAD 2.0",
        whose="paper",
        sources=("Abstract", "Section 4.2.3", "Table 2"),
        unit="times faster",
        checks=(
            Check(
                label=TWICE.model,
                relation="at least",
                published=2,
                computed=UNPRUNED.seconds / TWICE.seconds,
                tolerance=NEARLY_DOUBLE,
            ),
        ),
    )


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
                label=TWICE.model,
                relation="less than",
                published=TEXT["squad_loss_below"].value,
                computed=UNPRUNED.f1 - TWICE.f1,
            ),
        ),
    )
