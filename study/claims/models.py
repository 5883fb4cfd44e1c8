"""Claims that compare one unpruned or pruned model with another: small and large, BERT, RoBERTa."""

from __future__ import annotations

from study.claims.evidence import Evidence, f1_of
from study.claims.judgement import Lacking, Outcome, above, claim, within
from study.claims.statistics import Estimate, average
from study.frames import KINDS
from study.linked import TAUGHT_BY
from study.paper.published_text import TEXT

F1 = "F1 points"
POINTS = "percentage points"
LIKE_ROBERTA = ("roberta", "mpnet")
"""In the names of models with RoBERTa's tokens and pretraining; all others count as BERT."""


@claim(
    1,
    "Table 1",
    "on SQuAD 1.1 smaller models approach BERT-large in accuracy, whereas the smaller models "
    "underperform notably on both SQuAD 2.0 and Natural Questions (NQ)",
)
def small_models_fall_behind(evidence: Evidence) -> Outcome:
    """The base model is further behind the large one on SQuAD 2.0 than on SQuAD 1.1. (Of Natural
    Questions the paper's own numbers alone are shown.)"""
    base, large = evidence.two_models()
    hard, easy = (
        f1_of(task.model_rows(model=large, then="fine-tuned"))
        - f1_of(task.model_rows(model=base, then="fine-tuned"))
        for task in (evidence, evidence.beside("squad1"))
    )
    return Outcome(
        (above(hard - easy, 0, F1, "gap on SQuAD 2.0 minus gap on SQuAD 1.1"),),
        f"{base} is {hard} F1 points behind {large} on SQuAD 2.0 and {easy} on SQuAD 1.1.",
    )


@claim(
    15,
    "Section 4.2.3",
    "For corresponding penalty weights, the large-qa was pruned somewhat less than base-qa, and "
    "the F1 loss due to pruning was smaller",
)
def large_pruned_less(evidence: Evidence) -> Outcome:
    """At equal λ, of heads and of activations, a smaller share of the large model is removed than
    of the base model, and fewer F1 points are lost."""
    base, large = evidence.two_models()
    findings, words = [], []
    for kind in ("attn", "ff"):
        less = _removed_apart(evidence, kind, base, large)
        penalties = _shared_penalties(evidence, kind, base, large)
        lost = {
            model: average([_lost(evidence, kind, model, penalty) for penalty in penalties])
            for model in (base, large)
        }
        saved = lost[base] - lost[large]
        findings += [
            above(less, 0, POINTS, f"{KINDS[kind]} removed, base minus large"),
            above(saved, 0, F1, f"lost by pruning {KINDS[kind]}, base minus large"),
        ]
        words.append(
            f"{less} percentage points of the {KINDS[kind]} removed, {saved} F1 points lost"
        )
    return Outcome(tuple(findings), f"At equal λ, {base} minus {large}: {'; '.join(words)}.")


@claim(
    22,
    "Section 4.3.2",
    "For the same values of … the amount pruned is similar to BERT",
    data=("nq", "squad2"),
)
def roberta_pruned_alike(evidence: Evidence) -> Outcome:
    """At equal λ the shares removed of a model like RoBERTa and of one like BERT differ by at most
    10 percentage points, for heads and for activations."""
    bert, roberta = _families(evidence)
    apart = {kind: _removed_apart(evidence, kind, roberta, bert) for kind in ("attn", "ff")}
    findings = [
        within(each, -10, 10, POINTS, f"{KINDS[kind]} removed, {roberta} minus {bert}")
        for kind, each in apart.items()
    ]
    words = " and ".join(f"{each} points of {KINDS[kind]}" for kind, each in apart.items())
    return Outcome(tuple(findings), f"At equal λ {roberta} loses {words} more than {bert}.")


@claim(
    23,
    "Section 4.3.2",
    "The tradeoff loss in accuracy also shows a similar falloff",
    data=("nq", "squad2"),
)
def roberta_falls_off_alike(evidence: Evidence) -> Outcome:
    """Pruned by L0 without retraining, a model like RoBERTa and one like BERT lose the same F1 for
    each 10% of the heads, and of the activations, removed: they differ by at most half a point."""
    bert, roberta = _families(evidence)
    findings, words = [], []
    for kind in ("attn", "ff"):
        steeper = _slope(evidence, kind, roberta) - _slope(evidence, kind, bert)
        label = f"F1 lost per 10% of {KINDS[kind]}, {roberta} minus {bert}"
        findings.append(within(steeper, -0.5, 0.5, F1, label))
        words.append(f"{steeper} F1 points per 10% of {KINDS[kind]}")
    return Outcome(tuple(findings), f"{roberta} loses {' and '.join(words)} more than {bert}.")


@claim(
    24,
    "Section 4.3.2",
    "our RoBERTa-large model achieves 58.8 - over 4 F1-points better than the comparable "
    "BERT-large model",
    data=("nq",),
)
def roberta_better_on_nq(evidence: Evidence) -> Outcome:
    """RoBERTa-large is more than 4 short-answer F1 points above BERT-large on Natural Questions."""
    lead = TEXT["roberta_lead_above"].value
    try:
        roberta, bert = (
            f1_of(evidence.model_rows(model=model, then="fine-tuned"))
            for model in ("roberta-large", "bert-large-uncased")
        )
    except Lacking:
        raise Lacking(
            "needs roberta-large and bert-large-uncased, both fine-tuned on Natural Questions"
        ) from None
    ahead = roberta - bert
    return Outcome(
        (above(ahead, lead, F1, "RoBERTa-large minus BERT-large"),),
        f"RoBERTa-large is {ahead} F1 points above BERT-large.",
    )


def _families(evidence: Evidence) -> tuple[str, str]:
    """A model like BERT and one like RoBERTa: of each those with most points of L0."""
    names = evidence.own_points()["model"]
    names = names[~names.str.contains(TAUGHT_BY)]
    like_roberta = names.map(lambda name: any(part in name for part in LIKE_ROBERTA))
    if like_roberta.all() or not like_roberta.any():
        raise Lacking("needs gates at equal λ for a model like BERT and for one like RoBERTa")
    return str(names[~like_roberta].mode().iloc[0]), str(names[like_roberta].mode().iloc[0])


def _shared_penalties(evidence: Evidence, kind: str, *models: str) -> list[float]:
    of_each = [set(evidence.l0_points(kind, model=model)["penalty"]) for model in models]
    shared = sorted(set.intersection(*of_each))
    if not shared:
        raise Lacking(f"needs L0 runs of {' and '.join(models)} at equal λ for {KINDS[kind]}")
    return shared


def _removed_apart(evidence: Evidence, kind: str, one: str, other: str) -> Estimate:
    """Percent removed of one model minus of the other, averaged over the λ that both were given."""
    apart = [
        evidence.removed(kind, model=one, penalty=penalty)
        - evidence.removed(kind, model=other, penalty=penalty)
        for penalty in _shared_penalties(evidence, kind, one, other)
    ]
    return average(apart)


def _lost(evidence: Evidence, kind: str, model: str, penalty: float) -> Estimate:
    """F1 lost on held-out questions by L0 at one λ."""
    curve = evidence.curve("l0", kind, model=model, penalty=penalty)
    return curve.loss_at(curve.end)


def _slope(evidence: Evidence, kind: str, model: str) -> Estimate:
    """F1 lost per 10% removed, by least squares through the origin."""
    curve = evidence.curve("l0", kind, model=model)
    weights = [x / sum(x * x for x in curve.x) for x in curve.x]
    slopes = [10 * w * curve.loss_at(x) for w, x in zip(weights, curve.x, strict=True) if x > 0]
    return average(slopes) * len(slopes)
