"""Audit of Tables 3 to 5 and section 4.3.3: pruning, distillation and time on NQ."""

from __future__ import annotations

import numpy as np

from qaprune_lib.errors import RecordError
from study.paper.audit.item import AuditItem, Check
from study.paper.published import TABLE_2, TABLE_3, TABLE_4, TABLE_5, NqRow
from study.paper.published_text import TEXT
from study.paper.released import ROBERTA_BASE, ROBERTA_LARGE, Released

FULL, ONCE, TWICE, THRICE, BASE = TABLE_5.rows
ALMOST_DOUBLE = 0.2
"""A speed-up of 1.8 or more counts as the paper's "almost doubles"."""
SIMILAR_SHARE = 10
"""Percentage points by which "similar" amounts pruned may differ."""
SEED_SPREAD = TEXT["large_dist_short_f1"].sd or 0.0


def seconds_of(row: NqRow) -> float:
    """Decoding time of a row of Table 5."""
    if row.seconds is None:
        raise RecordError(f"{row.model} has no decoding time")
    return row.seconds


def _removed(row: NqRow) -> dict[str, float]:
    if row.attn_removed is None or row.ff_removed is None:
        raise RecordError(f"{row.model} was not pruned")
    return {"heads": row.attn_removed, "activations": row.ff_removed}


def model_of(row: NqRow) -> Released:
    """The encoder of a row of Table 5."""
    if row is BASE:
        return ROBERTA_BASE
    removed = _removed(row)
    return ROBERTA_LARGE.pruned(removed["heads"] / 100, removed["activations"] / 100)


def transfer_percentages() -> AuditItem:
    """Table 3's topologies are Table 2's."""
    combined = {row.attn_multiple: row for row in TABLE_2.rows if row.retrained}
    checks = []
    for row in TABLE_3.rows[1:]:
        squad = combined[row.multiple]
        shares = {"heads": squad.attn_removed, "activations": squad.ff_removed}
        checks += [
            Check(
                label=f"{row.model}, {kind}",
                published=share,
                computed=shares[kind],
                tolerance=0.5,
            )
            for kind, share in _removed(row).items()
        ]
    return AuditItem(
        name="transfer_percentages",
        statement="The models transferred to NQ are those pruned on SQuAD, to rounding",
        whose="paper",
        sources=("Table 2", "Table 3", "Section 4.3.1"),
        unit="percent",
        checks=tuple(checks),
    )


def same_penalty() -> AuditItem:
    """Amounts pruned from RoBERTa and from BERT at the same multiples of λ."""
    combined = {row.attn_multiple: row for row in TABLE_2.rows if row.retrained}
    checks = []
    for row in TABLE_4.rows[1:]:
        bert = combined[row.multiple]
        shares = {"heads": bert.attn_removed, "activations": bert.ff_removed}
        checks += [
            Check(
                label=f"{row.model}, {kind}",
                published=shares[kind],
                computed=share,
                tolerance=SIMILAR_SHARE,
            )
            for kind, share in _removed(row).items()
        ]
    return AuditItem(
        name="same_penalty",
        statement="At the same penalties RoBERTa is pruned as much as BERT, within 10 points",
        whose="paper",
        sources=("Section 4.3.2", "Table 2", "Table 4"),
        unit="percent",
        checks=tuple(checks),
        note="BERT's gates were trained on SQuAD 2.0, RoBERTa's on a fifth of NQ.",
    )


def rounded_sizes() -> AuditItem:
    """What forcing round sizes changed between Tables 4 and 5."""
    return AuditItem(
        name="rounded_sizes",
        statement="Rounding the sizes changes the percentages removed by less than a point",
        whose="paper",
        sources=("Section 4.3.3", "Table 4", "Table 5"),
        unit="percent",
        checks=tuple(
            Check(
                label=f"{before.model}, {kind}: least change that rounds to the two",
                relation="less than",
                published=TEXT["rounding_below"].value,
                computed=max(0.0, abs(_removed(after)[kind] - share) - 1),
            )
            for before, after in zip(TABLE_4.rows[1:], (ONCE, TWICE, THRICE), strict=True)
            for kind, share in _removed(before).items()
        ),
        note="Both tables print whole percents, so that one may stand for nearly none.",
    )


def distillation_gain() -> AuditItem:
    """Distillation over cross-entropy in continued training."""
    return AuditItem(
        name="distillation_gain",
        statement="Distillation in continued training gains at each amount pruned",
        whose="paper",
        sources=("Section 4.3.3", "Table 4", "Table 5"),
        unit="F1 points",
        checks=tuple(
            Check(
                label=f"{row.model}, {answers} answers",
                relation="at least",
                published=getattr(without, field),
                computed=getattr(row, field),
            )
            for answers, field in (("short", "short_f1"), ("long", "long_f1"))
            for without, row in zip(TABLE_4.rows[1:], (ONCE, TWICE, THRICE), strict=True)
        ),
    )


def stated_gain() -> AuditItem:
    """The gain that the text calls especially notable."""
    gains = {
        row.multiple: row.short_f1 - without.short_f1
        for without, row in zip(TABLE_4.rows[1:], (ONCE, TWICE, THRICE), strict=True)
    }
    stated = TEXT["distillation_gain_x2"].value
    return AuditItem(
        name="stated_gain",
        statement="The gain at ×2 is 2.9 short-answer points and the largest",
        whose="audit",
        sources=("Section 4.3.3", "Table 4", "Table 5"),
        unit="F1 points",
        checks=(
            Check(label="gain at ×2", published=stated, computed=gains[2]),
            Check(label="largest gain", published=stated, computed=max(gains.values())),
        ),
        note="The text calls it especially notable, not the largest.",
    )


def nq_speed() -> AuditItem:
    """The abstract's speed on NQ."""
    return AuditItem(
        name="nq_speed",
        statement="Pruning almost doubles the inference speed of RoBERTa-large on NQ",
        whose="paper",
        sources=("Abstract", "Table 5"),
        unit="times as fast",
        checks=(
            Check(
                label=TWICE.model,
                relation="at least",
                published=2,
                computed=seconds_of(FULL) / seconds_of(TWICE),
                tolerance=ALMOST_DOUBLE,
            ),
        ),
        note='"Almost" is read more generously here than "nearly" on SQuAD.',
    )


def _nq_loss(name: str, statement: str, answers: str, field: str, note: str = "") -> AuditItem:
    return AuditItem(
        name=name,
        statement=statement,
        whose="paper" if answers == "short" else "audit",
        sources=("Abstract", "Table 5"),
        unit="F1 points",
        checks=(
            Check(
                label=f"{TWICE.model}, {answers} answers",
                relation="less than",
                published=TEXT["nq_loss_below"].value,
                computed=getattr(FULL, field) - getattr(TWICE, field),
            ),
        ),
        note=note,
    )


def nq_loss() -> AuditItem:
    """The abstract's loss on NQ, at the point of its speed."""
    return _nq_loss(
        "nq_loss",
        "At that speed less than 0.5 short-answer F1 points are lost",
        "short",
        "short_f1",
    )


def nq_loss_on_long_answers() -> AuditItem:
    """The same limit on long answers, for which the abstract does not claim it."""
    return _nq_loss(
        "nq_loss_on_long_answers",
        "The loss is under 0.5 F1 points on long answers too",
        "long",
        "long_f1",
        note="The abstract speaks of short answers only.",
    )


def nq_loss_and_spread() -> AuditItem:
    """The margin of the abstract's loss against the spread over gate seeds."""
    margin = TEXT["nq_loss_below"].value - (FULL.short_f1 - TWICE.short_f1)
    return AuditItem(
        name="nq_loss_and_spread",
        statement="The loss on NQ is under 0.5 by more than the spread over seeds",
        whose="audit",
        sources=("Abstract", "Table 5", "Section 4.3.3"),
        unit="F1 points",
        checks=(
            Check(
                label="margin against one standard deviation over gate seeds",
                relation="at least",
                published=SEED_SPREAD,
                computed=margin,
            ),
        ),
        note="The spread is printed for another operating point of the same model.",
    )


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values))


def parameters_and_time() -> AuditItem:
    """Correlation of Table 5's times with what the models keep."""
    models = [model_of(row) for row in TABLE_5.rows]
    seconds = np.array([seconds_of(row) for row in TABLE_5.rows])
    counts = {
        "all parameters": np.array([model.parameters for model in models]),
        "parameters of the layers": np.array([model.encoder_parameters for model in models]),
    }
    return AuditItem(
        name="parameters_and_time",
        statement="Parameters are well correlated with decoding time: Spearman's ρ is 0.9 or more",
        whose="paper",
        sources=("Section 4.3.3", "Table 5"),
        unit="correlation",
        checks=tuple(
            Check(
                label=label,
                relation="at least",
                published=0.9,
                computed=float(np.corrcoef(_ranks(count), _ranks(seconds))[0, 1]),
            )
            for label, count in counts.items()
        ),
        note="Five models; those with RoBERTa-base swap places if embeddings are counted.",
    )
