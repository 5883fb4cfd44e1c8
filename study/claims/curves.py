"""Claims about F1 against the share removed (section 4.2.2, Figures 1 and 2), on the base model."""

from __future__ import annotations

from study.claims.curve import MAX_LOSS, Curve, bound_of
from study.claims.evidence import Evidence
from study.claims.judgement import (
    CLAIMS,
    Lacking,
    Outcome,
    above,
    below,
    claim,
    within,
)
from study.frames import KINDS, SCORERS
from study.linked import id_of
from study.paper.published_text import TEXT

F1 = "F1 points"
POINTS = "percentage points"
HEURISTICS = {"attn": ("leave_one_out", "gain", "random"), "ff": ("gain", "random")}
"""The scorers that the paper compares L0 with, by kind."""


@claim(5, "Section 4.2.2", "The performance of 'random' decays abruptly")
def random_decays(evidence: Evidence) -> Outcome:
    """With 20% of the heads removed, random loses over 10 F1 points more than L0, and more
    than every other scorer."""
    curves = evidence.curves("attn", ("l0", *HEURISTICS["attn"]))
    random = curves.pop("random").at(20)
    behind = {scorer: curve.at(20) - random for scorer, curve in curves.items()}
    findings = [above(behind["l0"], 10, F1, "random behind L0, 20% of the heads removed")]
    findings += [
        above(lead, 0, F1, f"random behind {SCORERS[scorer]}, 20% of the heads removed")
        for scorer, lead in behind.items()
        if scorer != "l0"
    ]
    others = ", ".join(f"{lead} behind {SCORERS[scorer]}" for scorer, lead in behind.items())
    return Outcome(tuple(findings), f"With 20% of the heads removed, random is {others} in F1.")


@claim(6, "Section 4.2.2", "'Leave-one-out' and 'Gain' are better, but substantially similar")
def heuristics_alike(evidence: Evidence) -> Outcome:
    """Mean F1 along the curve of heads: leave-one-out and gain are both above random, and within
    2 F1 points of each other."""
    curves = evidence.curves("attn", HEURISTICS["attn"])
    end = min(curve.end for curve in curves.values())
    area = {scorer: curve.mean_f1(end) for scorer, curve in curves.items()}
    apart = area["leave_one_out"] - area["gain"]
    over = {name: area[name] - area["random"] for name in ("leave_one_out", "gain")}
    return Outcome(
        (
            within(apart, -2, 2, F1, "leave-one-out minus gain, mean F1 along the curve"),
            above(over["leave_one_out"], 0, F1, "leave-one-out minus random, mean F1"),
            above(over["gain"], 0, F1, "gain minus random, mean F1"),
        ),
        f"Up to {end:.0f}% of the heads removed, leave-one-out is {over['leave_one_out']} and gain "
        f"{over['gain']} mean F1 points above random; the two differ by {apart}.",
    )


@claim(
    7,
    "Section 4.2.2",
    "L0 regularization is best, allowing 48% pruning at a cost under 5 F1-points",
)
def l0_best_on_heads(evidence: Evidence) -> Outcome:
    """L0 has the highest mean F1 along the curve and the highest F1 at 48% of the heads removed,
    and loses less than 5 F1 points there."""
    return _l0_best(evidence, "attn", TEXT["heads_removable"].value)


@claim(8, "Section 4.2.2", "the performance is robust to even larger pruning")
def activations_bear_more(evidence: Evidence) -> Outcome:
    """For L0, gain and random alike, the share removable for less than 5 F1 points is larger for
    activations than for heads."""
    findings, words, unknown = [], [], ""
    for scorer in ("l0", "gain", "random"):
        heads, activations = (evidence.curve(scorer, kind) for kind in ("attn", "ff"))
        name = SCORERS[scorer]
        words.append(f"{_removable(activations)} against {_removable(heads)} ({name})")
        try:
            bound = bound_of(activations, heads)
        except Lacking as reason:
            unknown = str(reason)
        else:
            more = activations.removable() - heads.removable()
            findings.append(above(more, 0, POINTS, f"{name}, activations minus heads", bound=bound))
    if not findings:
        raise Lacking(unknown)
    return Outcome(
        tuple(findings),
        f"For under {MAX_LOSS:.0f} F1 points, activations against heads: {'; '.join(words)}.",
        missing=unknown,
    )


@claim(
    9,
    "Section 4.2.2",
    "As before L0 regularization is best, allowing 70% pruning at cost under 5 F1-points",
)
def l0_best_on_activations(evidence: Evidence) -> Outcome:
    """L0 has the highest mean F1 along the curve and the highest F1 at 70% of the activations
    removed, and loses less than 5 F1 points there."""
    return _l0_best(evidence, "ff", TEXT["activations_removable"].value)


@claim(
    11,
    "Section 4.2.2",
    "when pruning embedding dimensions with Gain, the accuracy falls much more rapidly than when "
    "pruning attention heads or feed forward activations",
)
def embedding_falls_faster(evidence: Evidence) -> Outcome:
    """With gain, the share removable for less than 5 F1 points is less than half as large for
    embedding dimensions as for heads, and as for activations."""
    embedding = evidence.curve("gain", "emb")
    findings, words = [], []
    for kind in ("attn", "ff"):
        other = evidence.curve("gain", kind)
        half = 0.5 * other.removable() - embedding.removable()
        label = f"half of what {KINDS[kind]} bear, minus embedding dimensions"
        findings.append(above(half, 0, POINTS, label, bound=bound_of(other, embedding)))
        words.append(f"{_removable(other)} of {KINDS[kind]}")
    return Outcome(
        tuple(findings),
        f"Gain can remove {_removable(embedding)} of the embedding dimensions for under "
        f"{MAX_LOSS:.0f} F1 points, against {' and '.join(words)}.",
    )


@claim(12, "Section 4.2.2", "Attempts to train L0 regularization were unsuccessful")
def l0_fails_on_embeddings(evidence: Evidence) -> Outcome:
    """With the LayerNorm unchanged, as the paper presumably had it, L0 can remove a smaller
    share of the embedding dimensions than gain for less than 5 F1 points."""
    gain = evidence.curve("gain", "emb")
    plain = _embedding_curve(evidence, "plain")
    mended = _embedding_curve(evidence, "weighted")
    l0 = plain or mended
    if l0 is None:
        raise Lacking("needs an L0 run on embedding dimensions with embedding_norm plain")
    behind = gain.removable() - l0.removable()
    norm = "an unchanged LayerNorm" if plain else "a LayerNorm over the open dimensions"
    also = f"; L0 with the LayerNorm mended {_removable(mended)}" if plain and mended else ""
    label = "gain minus L0, embedding dimensions"
    return Outcome(
        (above(behind, 0, POINTS, label, bound=bound_of(gain, l0)),),
        f"L0 with {norm} can remove {_removable(l0)} of the embedding dimensions for under "
        f"{MAX_LOSS:.0f} F1 points, gain {_removable(gain)}{also}.",
        missing="" if plain else "no run with the LayerNorm unchanged",
    )


@claim(
    32,
    "Section 5",
    "both the attention heads and especially the feed forward layer can be pruned considerably "
    "with minimal lost of accuracy, while pruning the embedding/hidden dimension is ineffective … "
    "L0 regularization pruning is particularly effective",
)
def conclusions(evidence: Evidence) -> Outcome:
    """As strong as the weakest of claims 7, 8, 9, 11 and 12."""
    outcomes, lacking = {}, {}
    for number in (7, 8, 9, 11, 12):
        try:
            outcomes[number] = CLAIMS[number].judge(evidence)
        except Lacking as reason:
            lacking[number] = str(reason)
    if not any(outcome.verdict == "does not hold" for outcome in outcomes.values()) and lacking:
        number = min(lacking)
        raise Lacking(f"rests on claim {number}, which {lacking[number]}")
    words = [f"claim {number} {outcome.verdict}" for number, outcome in outcomes.items()]
    words += [f"claim {number} is not tested" for number in lacking]
    findings = [finding for outcome in outcomes.values() for finding in outcome.findings]
    weak = any(outcome.verdict == "undecided" for outcome in outcomes.values())
    return Outcome(
        tuple(findings),
        f"It rests on five other claims: {', '.join(words)}.",
        missing="part of a claim" if weak else "",
    )


def _l0_best(evidence: Evidence, kind: str, share: float) -> Outcome:
    l0 = evidence.curve("l0", kind)
    others = evidence.curves(kind, HEURISTICS[kind])
    end = min(curve.end for curve in (l0, *others.values()))
    place = min(share, l0.end)
    short = "" if l0.end >= share else f"no run of L0 removes {share:.0f}%"
    loss = l0.loss_at(place)
    if short and below(loss, MAX_LOSS, F1, "").verdict != "does not hold":
        raise Lacking(
            f"needs L0 runs with a larger λ: so far they remove at most {l0.end:.0f}% of the "
            f"{KINDS[kind]}, at a loss of {loss} F1 points"
        )
    ahead = {name: l0.mean_f1(end) - curve.mean_f1(end) for name, curve in others.items()}
    findings = [below(loss, MAX_LOSS, F1, f"lost by L0 with {place:.0f}% removed")]
    findings += [
        above(lead, 0, F1, f"L0 minus {SCORERS[name]}, mean F1 along the curve")
        for name, lead in ahead.items()
    ]
    findings += [
        above(l0.at(place) - curve.at(place), 0, F1, f"L0 minus {SCORERS[name]} at {place:.0f}%")
        for name, curve in others.items()
        if curve.end >= place
    ]
    leads = ", ".join(f"{lead} above {SCORERS[name]}" for name, lead in ahead.items())
    return Outcome(
        tuple(findings),
        f"With {place:.0f}% of the {KINDS[kind]} removed, L0 loses {loss} F1 points; its mean F1 "
        f"up to {end:.0f}% is {leads}.",
        missing=short,
    )


def _embedding_curve(evidence: Evidence, norm: str) -> Curve | None:
    """L0 on embedding dimensions with one of the two LayerNorms; None without such runs."""
    for variant in ("", f"{norm} LayerNorm"):
        try:
            rows = evidence.l0_points("emb", variant=variant)
        except Lacking:
            continue
        runs = [r for r in evidence.runs.of("score") if r.parameters["embedding_norm"] == norm]
        if set(rows["run"]) <= set(map(id_of, runs)):
            return evidence.curve("l0", "emb", variant=variant)
    return None


def _removable(curve: Curve) -> str:
    least = "at least " if curve.open_ended() else ""
    return f"{least}{curve.removable().value:.0f}%"
