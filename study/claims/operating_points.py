"""Claims about the large model pruned at multiples of the selected λ (Tables 2 and 5)."""

from __future__ import annotations

from itertools import pairwise

from study.claims.curve import Curve
from study.claims.estimate import F1, Bound, average
from study.claims.evidence import Evidence, f1_of
from study.claims.judgement import Lacking, Parts, claim
from study.linked import TAUGHT_BY


@claim(16, "5", "The pruned feed-forward layer and the pruned attention heads are easily combined")
def gates_combine(evidence: Evidence) -> Parts:
    """Pruning heads and activations together loses less than 1 F1 point more than the sum of what
    each loses alone, at the same λ and without retraining."""
    whole, then = evidence.unpruned(), "not retrained"
    multiple = float(evidence.pruned(then, kinds="attn")["multiple"].min())
    attn, ff, both = (
        whole - f1_of(evidence.pruned(then, kinds=kinds, multiple=multiple))
        for kinds in ("attn", "ff", "both")
    )
    excess = both - attn - ff
    yield excess.below(1, F1, "lost by both, beyond the sum of each alone")
    return (
        f"At {multiple:g}λ heads alone lose {attn.value:.1f}, activations alone {ff.value:.1f} and "
        f"both {both.value:.1f} F1 points: {excess} more than the sum."
    )


@claim(
    17,
    "4.2.3",
    "Much of the performance loss can be recovered by continuing the training for an additional "
    "epoch after the pruning",
)
def retraining_recovers(evidence: Evidence) -> Parts:
    """Continued training with cross-entropy (in the paper one more epoch; here what the profile
    says) recovers at least half of the F1 that pruning lost, at every multiple of λ. The effect is
    the F1 above that halfway mark."""
    whole, before, words = evidence.unpruned(), evidence.multiples("not retrained"), []
    for multiple, rows in evidence.multiples("cross-entropy").items():
        if multiple not in before:
            raise Lacking(f"needs F1 before retraining at {multiple:g}λ")
        start, end = f1_of(before[multiple]), f1_of(rows)
        label = f"F1 after continued training at {multiple:g}λ, above the halfway mark"
        yield (end - 0.5 * (start + whole)).above(0, F1, label)
        lost, won = (whole - start).value, (end - start).value
        words.append(f"{won:.1f} of {lost:.1f} F1 points at {multiple:g}λ")
    return f"Continued training wins back {', '.join(words)}."


@claim(18, "4.2.3", "the accuracy without retraining … decreases substantially as more is pruned")
def falls_without_retraining(evidence: Evidence) -> Parts:
    """Without retraining F1 falls from each multiple of λ to the next, and by 10 points or more at
    the fourth."""
    whole = evidence.unpruned()
    f1 = {multiple: f1_of(rows) for multiple, rows in evidence.multiples("not retrained").items()}
    last = max(f1)
    end = (whole - f1[last]).above(10, F1, f"lost at {last:g}λ without retraining")
    short = last < 4 and end.verdict != "holds"
    if short and len(f1) < 2:
        raise Lacking("needs pruned models at several multiples of λ")
    if not short:
        yield end
    for less, more in pairwise(f1):
        yield (f1[less] - f1[more]).above(0, F1, f"F1 at {less:g}λ minus at {more:g}λ")
    words = ", ".join(f"{(whole - each).value:.1f} at {m:g}λ" for m, each in f1.items())
    missing = "no models at the fourth multiple of λ" if short else ""
    return f"Without retraining the pruned model loses {words}.", missing


@claim(26, "4.3.3", "The 2.9 F1-point gain of pruned × 2 is especially notable", ("nq", "squad2"))
def distillation_gains(evidence: Evidence) -> Parts:
    """At every multiple of λ, the same pruned model is better after distillation than after as much
    training with cross-entropy."""
    taught, plain = evidence.multiples("distillation"), evidence.multiples("cross-entropy")
    words = []
    for multiple in sorted(taught.keys() & plain.keys()):
        both = set(taught[multiple]["point"]) & set(plain[multiple]["point"])
        if both:
            rows = (arm[multiple] for arm in (taught, plain))
            one, other = (f1_of(arm[arm["point"].isin(both)]) for arm in rows)
            gain = one - other
            yield gain.above(0, F1, f"distillation minus cross-entropy at {multiple:g}λ")
            words.append(f"{gain} F1 points at {multiple:g}λ")
    if not words:
        raise Lacking("needs one pruned model retrained with both objectives")
    return f"Distillation is ahead by {', '.join(words)}."


@claim(
    28,
    "4.3.3",
    "The distillation pruning does not provide a notable improvement over the cross-entropy driven "
    "pruning",
    ("nq", "squad2"),
)
def objective_of_pruning(evidence: Evidence) -> Parts:
    """All retrained by distillation, models whose gates were trained with distillation are within
    0.5 F1 points of those with cross-entropy, at equal encoder parameters (linear between models).
    """
    try:
        plain = _frontier(evidence, gate_objective="cross_entropy")
        taught = _frontier(evidence, gate_objective="distillation", variant="distillation")
    except Lacking:
        each = "models pruned with gates of each objective and then distilled"
        raise Lacking(f"needs {each}") from None
    places = [x for x in taught.x if plain.x[0] <= x <= plain.end]
    if not places:
        raise Lacking("needs gates of both objectives that prune to like sizes")
    ahead = average([taught.at(x) - plain.at(x) for x in places])
    label = "distillation-driven minus cross-entropy-driven pruning"
    yield ahead.within(-0.5, 0.5, F1, label)
    return (
        f"At equal encoder parameters ({_millions(*places)}) distillation-driven pruning is "
        f"{ahead} F1 points ahead."
    )


@claim(
    30,
    "4.3.3",
    "It lies above and to the left of the envelope of large pr(dist) points … These points lie "
    "even further above and to the left",
    ("nq", "squad2"),
)
def smaller_model_distilled(evidence: Evidence) -> Parts:
    """A smaller model distilled from the large one is better than the large one pruned to its
    encoder size and distilled; so is the smaller model distilled, pruned and distilled."""
    large, envelope = evidence.large, _frontier(evidence)
    teachers = evidence.model_rows(model=large)["finetune"]
    models = evidence.models[evidence.models["then"] == "distillation"]
    models = models[models["model"].ne(large) & models["teacher"].isin(teachers)]
    if models.empty:
        raise Lacking(f"needs a smaller model that is distilled with {large} as its teacher")
    chosen, words = str(models["model"].mode().iloc[0]), []
    models, base = models[models["model"] == chosen], chosen.partition(TAUGHT_BY)[0]
    for name, pruned in ((f"{base} distilled", False), (f"{base} distilled and pruned", True)):
        rows = models[models["kinds"].ne("none") == pruned]
        if rows.empty:
            raise Lacking(f"needs {name}, with {large} as its teacher")
        for _, seeds in rows.groupby(["penalty_attn", "penalty_ff"], dropna=False):
            size = float(seeds["encoder_parameters"].median())
            ahead, what = f1_of(seeds) - envelope.at(size), f"{name} ({_millions(size)})"
            # beyond the envelope's ends its nearest model stands in: larger is not worse
            bound: Bound = "at least" if size < envelope.x[0] else None
            bound = "at most" if size > envelope.end else bound
            yield ahead.above(0, F1, f"{what} minus {large} pruned as far", bound)
            words.append(f"{what} is {ahead} F1 points ahead")
    return f"Of {large} pruned to its encoder size and distilled, {', '.join(words)}."


def _frontier(evidence: Evidence, **where: str) -> Curve:
    """F1 of the large model pruned and distilled, against its encoder parameters."""
    groups = evidence.pruned("distillation", **where).groupby(["penalty_attn", "penalty_ff"])
    return Curve.through([(float(g["encoder_parameters"].mean()), f1_of(g)) for _, g in groups])


def _millions(*sizes: float) -> str:
    return " to ".join(f"{size / 1e6:.0f}" for size in sorted({min(sizes), max(sizes)})) + "M"
