"""Claims that compare models: small and large, BERT and RoBERTa, gates of one task and other."""

from __future__ import annotations

from study.claims.estimate import F1, POINTS, Estimate, average, mean_of
from study.claims.evidence import Evidence, basis_of, f1_of, unpruned_f1
from study.claims.judgement import Lacking, Parts, claim
from study.frames import KINDS
from study.linked import TAUGHT_BY
from study.paper.published_text import TEXT


@claim(
    1,
    "Table 1",
    "on SQuAD 1.1 smaller models approach BERT-large in accuracy, whereas the smaller models "
    "underperform notably on both SQuAD 2.0 and Natural Questions (NQ)",
)
def small_models_fall_behind(evidence: Evidence) -> Parts:
    """The base model is further behind the large one on SQuAD 2.0 than on SQuAD 1.1. (Of Natural
    Questions the paper's own numbers alone are shown.)"""
    base, large = evidence.two_models()
    hard, easy = (
        f1_of(task.model_rows(model=large, then="fine-tuned"))
        - f1_of(task.model_rows(model=base, then="fine-tuned"))
        for task in (evidence, Evidence(evidence.runs.records, "squad1"))
    )
    yield (hard - easy).above(0, F1, "gap on SQuAD 2.0 minus gap on SQuAD 1.1")
    return f"{base} is {hard} F1 points behind {large} on SQuAD 2.0 and {easy} on SQuAD 1.1."


@claim(
    15,
    "4.2.3",
    "For corresponding penalty weights, the large-qa was pruned somewhat less than base-qa, and "
    "the F1 loss due to pruning was smaller",
)
def large_pruned_less(evidence: Evidence) -> Parts:
    """At equal λ, of heads and of activations, a smaller share of the large model is removed than
    of the base model, and fewer F1 points are lost."""
    (base, large), words = evidence.two_models(), []
    for kind in ("attn", "ff"):
        less, saved = _apart(evidence, kind, base, large)
        yield less.above(0, POINTS, f"{KINDS[kind]} removed, base minus large")
        yield saved.above(0, F1, f"lost by pruning {KINDS[kind]}, base minus large")
        removed = f"{less} percentage points of the {KINDS[kind]} removed"
        words.append(f"{removed}, {saved} F1 points lost")
    return f"At equal λ, {base} minus {large}: {'; '.join(words)}."


@claim(
    21,
    "4.3.1",
    "the redundancies in BERT that are removed by pruning and not tied so specifically to a given "
    "task or domain",
    ("nq",),
)
def gates_transfer(evidence: Evidence) -> Parts:
    """Retrained on Natural Questions with cross-entropy, a model with gates found on SQuAD is above
    one with as many slices chosen at random, and within 1 F1 point of one with gates found on
    Natural Questions."""
    # all from one model's weights: Table 3's arm, which goes on from SQuAD's, is trained more
    same = {"then": "cross-entropy", "kinds": "both", "variant": "", "weights_from": "nq"}
    rows = evidence.model_rows(**same)
    rows = rows[rows["multiple"] == rows["multiple"].min()]
    scored, own = rows["choice"] == "scores", rows["gates_from"] == "nq"
    arms = {"SQuAD's gates": ~own & scored, "NQ's gates": own & scored, "random gates": ~scored}
    for name, arm in arms.items():
        if not arm.any():
            raise Lacking(f"needs a model pruned with {name} and retrained on nq")
    squad, nq, random = (f1_of(rows[arm]) for arm in arms.values())
    yield (squad - random).above(0, F1, "SQuAD's gates minus random ones")
    yield (squad - nq).within(-1, 1, F1, "SQuAD's gates minus NQ's")
    return (
        f"With SQuAD's gates the model is {squad - random} F1 points above random ones, and "
        f"{squad - nq} above those found on Natural Questions."
    )


@claim(
    22,
    "4.3.2",
    "For the same values of … the amount pruned is similar to BERT",
    ("nq", "squad2"),
)
def roberta_pruned_alike(evidence: Evidence) -> Parts:
    """At equal λ the shares removed of a model like RoBERTa and of one like BERT differ by at most
    10 percentage points, for heads and for activations."""
    (bert, roberta), words = _families(evidence), []
    for kind in ("attn", "ff"):
        apart, _ = _apart(evidence, kind, roberta, bert)
        yield apart.within(-10, 10, POINTS, f"{KINDS[kind]} removed, {roberta} minus {bert}")
        words.append(f"{apart} points of {KINDS[kind]}")
    return f"At equal λ {roberta} loses {' and '.join(words)} more than {bert}."


@claim(23, "4.3.2", "The tradeoff loss in accuracy also shows a similar falloff", ("nq", "squad2"))
def roberta_falls_off_alike(evidence: Evidence) -> Parts:
    """Pruned by L0 without retraining, a model like RoBERTa and one like BERT lose the same F1 for
    each 10% of the heads, and of the activations, removed: they differ by at most half a point."""
    (bert, roberta), words = _families(evidence), []
    for kind in ("attn", "ff"):
        steeper = _slope(evidence, kind, roberta) - _slope(evidence, kind, bert)
        label = f"F1 lost per 10% of {KINDS[kind]}, {roberta} minus {bert}"
        yield steeper.within(-0.5, 0.5, F1, label)
        words.append(f"{steeper} F1 points per 10% of {KINDS[kind]}")
    return f"{roberta} loses {' and '.join(words)} more than {bert}."


@claim(
    24,
    "4.3.2",
    "our RoBERTa-large model achieves 58.8 - over 4 F1-points better than the comparable "
    "BERT-large model",
    ("nq",),
)
def roberta_better_on_nq(evidence: Evidence) -> Parts:
    """RoBERTa-large is more than 4 short-answer F1 points above BERT-large on Natural Questions."""
    try:
        roberta, bert = (
            f1_of(evidence.model_rows(model=model, then="fine-tuned"))
            for model in ("roberta-large", "bert-large-uncased")
        )
    except Lacking:
        both = "roberta-large and bert-large-uncased, both fine-tuned on Natural Questions"
        raise Lacking(f"needs {both}") from None
    ahead, lead = roberta - bert, TEXT["roberta_lead_above"].value
    yield ahead.above(lead, F1, "RoBERTa-large minus BERT-large")
    return f"RoBERTa-large is {ahead} F1 points above BERT-large."


def _families(evidence: Evidence) -> tuple[str, str]:
    """A model like BERT and one with RoBERTa's tokens: of each those with most points of L0."""
    names = evidence.own_points()["model"]
    names = names[~names.str.contains(TAUGHT_BY)]
    like_roberta = names.str.contains("roberta|mpnet")
    if like_roberta.all() or not like_roberta.any():
        raise Lacking("needs gates at equal λ for a model like BERT and for one like RoBERTa")
    return str(names[~like_roberta].mode().iloc[0]), str(names[like_roberta].mode().iloc[0])


def _apart(evidence: Evidence, kind: str, one: str, other: str) -> list[Estimate]:
    """Percent removed, and F1 lost, by L0 at equal λ: of one model minus of the other."""
    rows = [evidence.l0_points(kind, model=model) for model in (one, other)]
    shared = sorted(set(rows[0]["penalty"]) & set(rows[1]["penalty"]))
    if not shared:
        raise Lacking(f"needs L0 runs of {one} and {other} at equal λ for {KINDS[kind]}")
    removed, lost = [], []
    for points in rows:
        cuts = [points[points["penalty"] == penalty] for penalty in shared]
        removed.append(average([mean_of(cut["removed"], basis_of(cut)) for cut in cuts]))
        lost.append(average([unpruned_f1(cut) - f1_of(cut) for cut in cuts]))
    return [removed[0] - removed[1], lost[0] - lost[1]]


def _slope(evidence: Evidence, kind: str, model: str) -> Estimate:
    """F1 lost per 10% removed, by least squares through the origin."""
    curve = evidence.curve("l0", kind, model=model)
    squares = sum(x * x for x in curve.x)
    slopes = [10 * x / squares * curve.loss_at(x) for x in curve.x if x > 0]
    return average(slopes) * len(slopes)
