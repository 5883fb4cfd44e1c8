"""Audit of Table 2's decoding times: what pruning speeds up, what it cannot, and the noise."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from study.paper.audit.item import AuditItem, Check
from study.paper.published import TABLE_2, SquadRow
from study.paper.released import BERT_LARGE, Released

UNPRUNED = TABLE_2.row("no pruning")
ATTN_ONLY = TABLE_2.row("attn_1")
FF_ONLY = TABLE_2.row("ff_1")
BOTH = TABLE_2.row("ff_1 + attn_1")
RETRAINED = tuple(row for row in TABLE_2.rows if row.retrained)

NEARLY_DOUBLE = 0.1
"""A speed-up of 1.9 or more counts as the paper's "nearly doubles"."""
TOKENS = 384
"""Window length, common practice on SQuAD; the paper does not print its own."""


def _pruned(row: SquadRow) -> Released:
    return BERT_LARGE.pruned(row.attn_removed / 100, row.ff_removed / 100)


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
            Check(
                label=f"{BOTH.model}, the time model",
                published=BOTH.seconds,
                computed=fit_decoding_time().seconds(BOTH),
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
    full = BERT_LARGE.macs(TOKENS)
    return AuditItem(
        name="speed_not_proportional",
        statement="The speed-up is less than what is pruned would promise",
        whose="paper",
        sources=("Table 2", "Section 4.2.3"),
        unit="times as fast",
        checks=tuple(
            Check(
                label=row.model,
                relation="less than",
                published=full
                / BERT_LARGE.pruned(row.attn_removed / 100, row.ff_removed / 100).macs(TOKENS),
                computed=UNPRUNED.seconds / row.seconds,
                relative=True,
            )
            for row in RETRAINED
        ),
        note=f"Compared with the ratio of MACs in windows of {TOKENS} tokens, which is ours.",
    )


def squad_speed() -> AuditItem:
    """The abstract's speed on SQuAD 2.0."""
    return AuditItem(
        name="squad_speed",
        statement="Pruning nearly doubles the decoding speed on SQuAD 2.0",
        whose="paper",
        sources=("Abstract", "Section 4.2.3", "Table 2"),
        unit="times as fast",
        checks=(
            Check(
                label=RETRAINED[1].model,
                relation="at least",
                published=2,
                computed=UNPRUNED.seconds / RETRAINED[1].seconds,
                tolerance=NEARLY_DOUBLE,
            ),
        ),
    )
