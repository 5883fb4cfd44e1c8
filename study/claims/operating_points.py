"""Claims about the large model pruned at multiples of the selected λ (Tables 2 and 5)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from study.claims.curve import Curve
from study.claims.evidence import Evidence, f1_of
from study.claims.judgement import Lacking, Outcome, above, below, claim, within
from study.claims.statistics import average
from study.linked import TAUGHT_BY

F1 = "F1 points"


@claim(
    16,
    "Section 5",
    "The pruned feed-forward layer and the pruned attention heads are easily combined",
)
def gates_combine(evidence: Evidence) -> Outcome:
    """Pruning heads and activations together loses less than 1 F1 point more than the sum of what
    each loses alone, at the same λ and without retraining."""
    whole = evidence.unpruned()
    alone = evidence.pruned("not retrained", kinds="attn")["multiple"]
    multiple = float(alone.min())
    lost = {
        kinds: whole - f1_of(evidence.pruned("not retrained", kinds=kinds, multiple=multiple))
        for kinds in ("attn", "ff", "both")
    }
    excess = lost["both"] - lost["attn"] - lost["ff"]
    return Outcome(
        (below(excess, 1, F1, "lost by both, beyond the sum of each alone"),),
        f"At {multiple:g}λ heads alone lose {lost['attn'].value:.1f}, activations alone "
        f"{lost['ff'].value:.1f} and both {lost['both'].value:.1f} F1 points: {excess} more than "
        "the sum.",
    )


@claim(
    17,
    "Section 4.2.3",
    "Much of the performance loss can be recovered by continuing the training for an additional "
    "epoch after the pruning",
)
def retraining_recovers(evidence: Evidence) -> Outcome:
    """Continued training with cross-entropy (in the paper one more epoch; here what the profile
    says) recovers at least half of the F1 that pruning lost, at every multiple of λ. The effect is
    the F1 above that halfway mark."""
    whole = evidence.unpruned()
    before = evidence.multiples("not retrained")
    findings, words = [], []
    for multiple, rows in evidence.multiples("cross-entropy").items():
        if multiple not in before:
            raise Lacking(f"needs F1 before retraining at {multiple:g}λ")
        start, end = f1_of(before[multiple]), f1_of(rows)
        beyond = end - 0.5 * (start + whole)
        label = f"F1 after continued training at {multiple:g}λ, above the halfway mark"
        findings.append(above(beyond, 0, F1, label))
        lost, won = (whole - start).value, (end - start).value
        words.append(f"{won:.1f} of {lost:.1f} F1 points at {multiple:g}λ")
    return Outcome(tuple(findings), f"Continued training wins back {', '.join(words)}.")


@claim(
    18,
    "Section 4.2.3",
    "the accuracy without retraining … decreases substantially as more is pruned",
)
def falls_without_retraining(evidence: Evidence) -> Outcome:
    """Without retraining F1 falls from each multiple of λ to the next, and by 10 points or more at
    the fourth."""
    whole = evidence.unpruned()
    f1 = {multiple: f1_of(rows) for multiple, rows in evidence.multiples("not retrained").items()}
    last = max(f1)
    lost = whole - f1[last]
    steps = [
        above(f1[less] - f1[more], 0, F1, f"F1 at {less:g}λ minus at {more:g}λ")
        for less, more in pairwise(f1)
    ]
    words = ", ".join(f"{(whole - each).value:.1f} at {m:g}λ" for m, each in f1.items())
    end = above(lost, 10, F1, f"lost at {last:g}λ without retraining")
    short = last < 4 and end.verdict != "holds"
    if short and not steps:
        raise Lacking("needs pruned models at several multiples of λ")
    return Outcome(
        tuple(steps) if short else (end, *steps),
        f"Without retraining the pruned model loses {words}.",
        missing="no models at the fourth multiple of λ" if short else "",
    )


@claim(
    26,
    "Section 4.3.3",
    "The 2.9 F1-point gain of pruned × 2 is especially notable",
    data=("nq", "squad2"),
)
def distillation_gains(evidence: Evidence) -> Outcome:
    """At every multiple of λ, the same pruned model is better after distillation than after as much
    training with cross-entropy."""
    taught, plain = evidence.multiples("distillation"), evidence.multiples("cross-entropy")
    findings, words = [], []
    for multiple in sorted(set(taught) & set(plain)):
        both = set(taught[multiple]["point"]) & set(plain[multiple]["point"])
        one, other = (
            rows[rows["point"].isin(both)] for rows in (taught[multiple], plain[multiple])
        )
        if both:
            gain = f1_of(one) - f1_of(other)
            findings.append(
                above(gain, 0, F1, f"distillation minus cross-entropy at {multiple:g}λ")
            )
            words.append(f"{gain} F1 points at {multiple:g}λ")
    if not findings:
        raise Lacking("needs one pruned model retrained with both objectives")
    return Outcome(tuple(findings), f"Distillation is ahead by {', '.join(words)}.")


@claim(
    28,
    "Section 4.3.3",
    "The distillation pruning does not provide a notable improvement over the cross-entropy driven "
    "pruning",
    data=("nq", "squad2"),
)
def objective_of_pruning(evidence: Evidence) -> Outcome:
    """All retrained by distillation, models whose gates were trained with distillation are within
    0.5 F1 points of those with cross-entropy, at equal encoder parameters (linear between models).
    """
    try:
        by_cross_entropy = _frontier(evidence, gate_objective="cross_entropy")
        taught = _frontier(evidence, gate_objective="distillation", variant="distillation")
    except Lacking:
        raise Lacking(
            "needs models pruned with gates of each objective and then distilled"
        ) from None
    places = [x for x in taught.x if by_cross_entropy.x[0] <= x <= by_cross_entropy.end]
    if not places:
        raise Lacking("needs gates of both objectives that prune to like sizes")
    ahead = average([taught.at(x) - by_cross_entropy.at(x) for x in places])
    return Outcome(
        (within(ahead, -0.5, 0.5, F1, "distillation-driven minus cross-entropy-driven pruning"),),
        f"At equal encoder parameters ({_millions(places)}) distillation-driven pruning is {ahead} "
        "F1 points ahead.",
    )


@claim(
    30,
    "Section 4.3.3",
    "It lies above and to the left of the envelope of large pr(dist) points … These points lie "
    "even further above and to the left",
    data=("nq", "squad2"),
)
def smaller_model_distilled(evidence: Evidence) -> Outcome:
    """A smaller model distilled from the large one is better than the large one pruned to its
    encoder size and distilled; so is the smaller model distilled, pruned and distilled."""
    large = evidence.large
    pruned_large = _frontier(evidence)
    teachers = set(evidence.model_rows(model=large)["finetune"])
    distilled = evidence.models[evidence.models["then"] == "distillation"]
    by_large = distilled[(distilled["model"] != large) & distilled["teacher"].isin(teachers)]
    if by_large.empty:
        raise Lacking(f"needs a smaller model that is distilled with {large} as its teacher")
    chosen = str(by_large["model"].mode().iloc[0])
    by_large = by_large[by_large["model"] == chosen]
    base = chosen.partition(TAUGHT_BY)[0]
    findings, words = [], []
    for name, chosen_rows in (
        (f"{base} distilled", by_large[by_large["kinds"] == "none"]),
        (f"{base} distilled and pruned", by_large[by_large["kinds"] != "none"]),
    ):
        if chosen_rows.empty:
            raise Lacking(f"needs {name}, with {large} as its teacher")
        for _, rows in chosen_rows.groupby(["penalty_attn", "penalty_ff"], dropna=False):
            size = float(rows["encoder_parameters"].median())
            ahead = f1_of(rows) - pruned_large.at(size)
            label = f"{name} ({_millions([size])}) minus {large} pruned as far"
            findings.append(above(ahead, 0, F1, label, bound=_beyond(pruned_large, size)))
            words.append(f"{name} ({_millions([size])}) is {ahead} F1 points ahead")
    return Outcome(
        tuple(findings), f"Of {large} pruned to its encoder size and distilled, {', '.join(words)}."
    )


def _beyond(frontier: Curve, size: float) -> Literal["at least", "at most"] | None:
    """What the nearest model of a frontier stands for beyond its ends: larger is not worse."""
    if size < frontier.x[0]:
        return "at least"
    return "at most" if size > frontier.end else None


def _frontier(evidence: Evidence, **where: str) -> Curve:
    """F1 of the large model pruned and distilled, against its encoder parameters."""
    rows = evidence.pruned("distillation", **where)
    groups = [group for _, group in rows.groupby(["penalty_attn", "penalty_ff"])]
    return Curve.through([(float(g["encoder_parameters"].mean()), f1_of(g)) for g in groups])


def _millions(sizes: list[float]) -> str:
    return " to ".join(f"{size / 1e6:.0f}" for size in sorted({min(sizes), max(sizes)})) + "M"
