"""Audit of section 4.3.3's smaller models: RoBERTa-base distilled, and pruned besides."""

from __future__ import annotations

import numpy as np

from study.paper.audit.item import AuditItem, Check
from study.paper.audit.natural_questions import (
    BASE,
    THRICE,
    TWICE,
    model_of,
    seconds_of,
)
from study.paper.published_text import TEXT
from study.paper.released import ROBERTA_BASE, ROBERTA_LARGE, Released

MILLION = 1e6
EQUAL_F1 = 0.5
"""F1 points by which one pruning objective may differ from the other without being notable."""


def _pruned(model: Released, name: str) -> Released:
    attn, ff = (TEXT[f"{name}_{kind}_removed"].value / 100 for kind in ("attn", "ff"))
    return model.pruned(attn, ff)


LARGE_DIST = _pruned(ROBERTA_LARGE, "large_dist")
BASE_PRUNED = _pruned(ROBERTA_BASE, "base_pruned")


def base_against_large() -> AuditItem:
    """The distilled RoBERTa-base against the most pruned RoBERTa-large, as Fig. 4 has them."""
    return AuditItem(
        name="base_against_large",
        statement="The distilled RoBERTa-base is better than the most pruned RoBERTa-large and has "
        "fewer parameters",
        whose="paper",
        sources=("Section 4.3.3", "Table 5"),
        unit="F1 points",
        checks=(
            Check(
                label="short answers",
                relation="at least",
                published=THRICE.short_f1,
                computed=BASE.short_f1,
            ),
            Check(
                label="parameters",
                unit="millions",
                relation="less than",
                published=model_of(THRICE).parameters / MILLION,
                computed=model_of(BASE).parameters / MILLION,
            ),
        ),
        note="The text compares with models pruned by distillation, Table 5 has those pruned by "
        "cross-entropy.",
    )


def base_against_large_otherwise() -> AuditItem:
    """The same two models by time and by long answers."""
    return AuditItem(
        name="base_against_large_otherwise",
        statement="It is so by decoding time, by long answers and by the parameters of the layers",
        whose="audit",
        sources=("Table 5",),
        unit="F1 points",
        checks=(
            Check(
                label="long answers",
                relation="at least",
                published=THRICE.long_f1,
                computed=BASE.long_f1,
            ),
            Check(
                label="decoding time",
                unit="seconds",
                relation="less than",
                published=seconds_of(THRICE),
                computed=seconds_of(BASE),
            ),
            Check(
                label="parameters of the layers",
                unit="millions",
                relation="less than",
                published=model_of(THRICE).encoder_parameters / MILLION,
                computed=model_of(BASE).encoder_parameters / MILLION,
            ),
        ),
        note="RoBERTa-large's embeddings are the larger ones, and pruning leaves them whole.",
    )


def pruned_base_against_large() -> AuditItem:
    """The pruned RoBERTa-base against RoBERTa-large pruned by distillation."""
    return AuditItem(
        name="pruned_base_against_large",
        statement="RoBERTa-base distilled and pruned is better than RoBERTa-large pruned by "
        "distillation and has fewer parameters",
        whose="paper",
        sources=("Section 4.3.3",),
        unit="F1 points",
        checks=(
            Check(
                label="short answers",
                relation="at least",
                published=TEXT["large_dist_short_f1"].value,
                computed=TEXT["base_pruned_short_f1"].value,
            ),
            Check(
                label="parameters",
                unit="millions",
                relation="less than",
                published=LARGE_DIST.parameters / MILLION,
                computed=BASE_PRUNED.parameters / MILLION,
            ),
        ),
    )


def pruning_costs_accuracy() -> AuditItem:
    """RoBERTa-base distilled, with and without pruning."""
    return AuditItem(
        name="pruning_costs_accuracy",
        statement="Pruning the distilled RoBERTa-base does not raise its F1, within one standard "
        "deviation",
        whose="audit",
        sources=("Section 4.3.3", "Table 5"),
        unit="F1 points",
        checks=tuple(
            Check(
                label=f"{answers} answers",
                relation="less than",
                published=getattr(BASE, f"{answers}_f1"),
                computed=TEXT[f"base_pruned_{answers}_f1"].value,
                tolerance=TEXT[f"base_pruned_{answers}_f1"].sd or 0.0,
            )
            for answers in ("short", "long")
        ),
        note="The pruned model was trained for longer; the unpruned one with as much training is "
        "not reported.",
    )


def objective_of_pruning() -> AuditItem:
    """Pruning by distillation against pruning by cross-entropy, both then distilled."""
    between = [model_of(THRICE).parameters, model_of(TWICE).parameters]
    return AuditItem(
        name="objective_of_pruning",
        statement="Pruning by distillation is no notable improvement over pruning by "
        "cross-entropy: within half a point at equal parameters",
        whose="paper",
        sources=("Section 4.3.3", "Table 5"),
        unit="F1 points",
        checks=tuple(
            Check(
                label=f"{answers} answers",
                published=float(
                    np.interp(
                        LARGE_DIST.parameters,
                        between,
                        [getattr(THRICE, f"{answers}_f1"), getattr(TWICE, f"{answers}_f1")],
                    )
                ),
                computed=TEXT[f"large_dist_{answers}_f1"].value,
                tolerance=EQUAL_F1,
            )
            for answers in ("short", "long")
        ),
        note="Table 5's ×2 and ×3 are joined by a straight line in between.",
    )
