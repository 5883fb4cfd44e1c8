"""Claims about F1 against the share removed (Figures 1 and 2), on the base model."""

from __future__ import annotations

from contextlib import suppress

from study.claims.curve import MAX_LOSS, Curve, bound_of
from study.claims.estimate import F1, POINTS, average
from study.claims.evidence import Evidence
from study.claims.judgement import CLAIMS, Judgement, Lacking, Parts, claim
from study.frames import KINDS, SCORERS
from study.paper.published_text import TEXT

HEURISTICS = {"attn": ("leave_one_out", "gain", "random"), "ff": ("gain", "random")}
"""The scorers that the paper compares L0 with, by kind."""


@claim(5, "4.2.2", "The performance of 'random' decays abruptly")
def random_decays(evidence: Evidence) -> Parts:
    """With 20% of the heads removed, random loses over 10 F1 points more than L0, and more
    than every other scorer."""
    f1 = {scorer: evidence.curve(scorer, "attn").at(20) for scorer in ("l0", *HEURISTICS["attn"])}
    random, place = f1.pop("random"), "20% of the heads removed"
    behind = {SCORERS[scorer]: each - random for scorer, each in f1.items()}
    for name, lead in behind.items():
        yield lead.above(10 if name == "L0" else 0, F1, f"random behind {name}, {place}")
    others = ", ".join(f"{lead} behind {name}" for name, lead in behind.items())
    return f"With {place}, random is {others} in F1."


@claim(6, "4.2.2", "'Leave-one-out' and 'Gain' are better, but substantially similar")
def heuristics_alike(evidence: Evidence) -> Parts:
    """Mean F1 along the curve of heads: leave-one-out and gain are both above random, and within
    2 F1 points of each other."""
    curves = [evidence.curve(scorer, "attn") for scorer in HEURISTICS["attn"]]
    end = min(curve.end for curve in curves)
    left_out, gain, random = (curve.mean_f1(end) for curve in curves)
    apart, first, second = left_out - gain, left_out - random, gain - random
    yield apart.within(-2, 2, F1, "leave-one-out minus gain, mean F1 along the curve")
    yield first.above(0, F1, "leave-one-out minus random, mean F1")
    yield second.above(0, F1, "gain minus random, mean F1")
    return (
        f"Up to {end:.0f}% of the heads removed, leave-one-out is {first} and gain {second} mean "
        f"F1 points above random; the two differ by {apart}."
    )


@claim(7, "4.2.2", "L0 regularization is best, allowing 48% pruning at a cost under 5 F1-points")
def l0_best_on_heads(evidence: Evidence) -> Parts:
    """L0 has the highest mean F1 along the curve and the highest F1 at 48% of the heads removed,
    and loses less than 5 F1 points there."""
    return (yield from _l0_best(evidence, "attn", TEXT["heads_removable"].value))


@claim(8, "4.2.2", "the performance is robust to even larger pruning")
def activations_bear_more(evidence: Evidence) -> Parts:
    """For L0, gain and random alike, the share removable for less than 5 F1 points is larger for
    activations than for heads."""
    words, unknown = [], []
    for name in ("l0", "gain", "random"):
        scorer, (attn, ff) = SCORERS[name], (evidence.curve(name, kind) for kind in ("attn", "ff"))
        words.append(f"{_removable(ff)} against {_removable(attn)} ({scorer})")
        more, label = ff.removable() - attn.removable(), f"{scorer}, activations minus heads"
        try:
            yield more.above(0, POINTS, label, bound_of(ff, attn))
        except Lacking as reason:
            unknown.append(str(reason))
    if len(unknown) == len(words):
        raise Lacking(unknown[-1])
    shares = f"For under {MAX_LOSS:.0f} F1 points, activations against heads: {'; '.join(words)}."
    return shares, "; ".join(unknown)


@claim(
    9,
    "4.2.2",
    "As before L0 regularization is best, allowing 70% pruning at cost under 5 F1-points",
)
def l0_best_on_activations(evidence: Evidence) -> Parts:
    """L0 has the highest mean F1 along the curve and the highest F1 at 70% of the activations
    removed, and loses less than 5 F1 points there."""
    return (yield from _l0_best(evidence, "ff", TEXT["activations_removable"].value))


@claim(
    11,
    "4.2.2",
    "when pruning embedding dimensions with Gain, the accuracy falls much more rapidly than when "
    "pruning attention heads or feed forward activations",
)
def embedding_falls_faster(evidence: Evidence) -> Parts:
    """With gain, the share removable for less than 5 F1 points is less than half as large for
    embedding dimensions as for heads, and as for activations."""
    emb, *others = (evidence.curve("gain", kind) for kind in ("emb", "attn", "ff"))
    for other, name in zip(others, KINDS.values(), strict=False):
        half = 0.5 * other.removable() - emb.removable()
        label = f"half of what {name} bear, minus embedding dimensions"
        yield half.above(0, POINTS, label, bound_of(other, emb))
    attn, ff = (f"{_removable(c)} of {n}" for c, n in zip(others, KINDS.values(), strict=False))
    return (
        f"Gain can remove {_removable(emb)} of the embedding dimensions for under "
        f"{MAX_LOSS:.0f} F1 points, against {attn} and {ff}."
    )


@claim(12, "4.2.2", "Attempts to train L0 regularization were unsuccessful")
def l0_fails_on_embeddings(evidence: Evidence) -> Parts:
    """With the LayerNorm unchanged, as the paper presumably had it, L0 can remove a smaller
    share of the embedding dimensions than gain for less than 5 F1 points."""
    gain = evidence.curve("gain", "emb")
    plain, mended = (_embedding_curve(evidence, norm) for norm in ("plain", "weighted"))
    l0 = plain or mended
    if l0 is None:
        raise Lacking("needs an L0 run on embedding dimensions with embedding_norm plain")
    behind = gain.removable() - l0.removable()
    yield behind.above(0, POINTS, "gain minus L0, embedding dimensions", bound_of(gain, l0))
    norm = "an unchanged LayerNorm" if plain else "a LayerNorm over the open dimensions"
    also = f"; L0 with the LayerNorm mended {_removable(mended)}" if plain and mended else ""
    why = (
        f"L0 with {norm} can remove {_removable(l0)} of the embedding dimensions for under "
        f"{MAX_LOSS:.0f} F1 points, gain {_removable(gain)}{also}."
    )
    return why, "" if plain else "no run with the LayerNorm unchanged"


@claim(20, "Sections 4.1 and 4.3", "the same techniques are applicable on the NQ dataset", ("nq",))
def techniques_work_on_nq(evidence: Evidence) -> Parts:
    """On questions in the format of Natural Questions, L0 is above random at the shares that it
    removes by itself, for heads and for activations."""
    words = []
    for kind in ("attn", "ff"):
        l0, random = (evidence.curve(scorer, kind) for scorer in ("l0", "random"))
        places = [x for x in l0.x[1:] if x <= random.end]
        if not places:
            raise Lacking(f"needs random cuts of {KINDS[kind]} as far as L0 prunes")
        ahead = average([l0.at(x) - random.at(x) for x in places])
        yield ahead.above(0, F1, f"L0 minus random, {KINDS[kind]}")
        words.append(f"{ahead} F1 points on {KINDS[kind]}")
    return f"L0 is above random by {' and '.join(words)}."


@claim(
    32,
    "5",
    "both the attention heads and especially the feed forward layer can be pruned considerably "
    "with minimal lost of accuracy, while pruning the embedding/hidden dimension is ineffective … "
    "L0 regularization pruning is particularly effective",
)
def conclusions(evidence: Evidence) -> Parts:
    """As strong as the weakest of claims 7, 8, 9, 11 and 12."""
    outcomes, lacking = {}, {}
    for number in (7, 8, 9, 11, 12):
        try:
            judged = Judgement.of(CLAIMS[number].parts(evidence))
        except Lacking as reason:
            lacking[number] = str(reason)
        else:
            outcomes[number] = judged.outcome
            yield from judged.findings
    if lacking and "does not hold" not in outcomes.values():
        raise Lacking(f"rests on claim {min(lacking)}, which {lacking[min(lacking)]}")
    words = [f"claim {number} {outcome}" for number, outcome in outcomes.items()]
    words += [f"claim {number} is not tested" for number in lacking]
    missing = "part of a claim" if "undecided" in outcomes.values() else ""
    return f"It rests on five other claims: {', '.join(words)}.", missing


def _l0_best(evidence: Evidence, kind: str, share: float) -> Parts:
    l0 = evidence.curve("l0", kind)
    others = {SCORERS[scorer]: evidence.curve(scorer, kind) for scorer in HEURISTICS[kind]}
    end, place = min(curve.end for curve in (l0, *others.values())), min(share, l0.end)
    loss = l0.loss_at(place)
    at_place = loss.below(MAX_LOSS, F1, f"lost by L0 with {place:.0f}% removed")
    if place < share and at_place.verdict != "does not hold":
        raise Lacking(
            f"needs L0 runs with a larger λ: so far they remove at most {l0.end:.0f}% of the "
            f"{KINDS[kind]}, at a loss of {loss} F1 points"
        )
    yield at_place
    ahead = {name: l0.mean_f1(end) - curve.mean_f1(end) for name, curve in others.items()}
    for name, lead in ahead.items():
        yield lead.above(0, F1, f"L0 minus {name}, mean F1 along the curve")
    for name, curve in others.items():
        if curve.end >= place:
            lead = l0.at(place) - curve.at(place)
            yield lead.above(0, F1, f"L0 minus {name} at {place:.0f}%")
    leads = ", ".join(f"{lead} above {name}" for name, lead in ahead.items())
    why = (
        f"With {place:.0f}% of the {KINDS[kind]} removed, L0 loses {loss} F1 points; its mean F1 "
        f"up to {end:.0f}% is {leads}."
    )
    return why, f"no run of L0 removes {share:.0f}%" if place < share else ""


def _embedding_curve(evidence: Evidence, norm: str) -> Curve | None:
    """L0 on embedding dimensions with one of the two LayerNorms; None without such runs."""
    for variant in ("", f"{norm} LayerNorm"):
        with suppress(Lacking):
            return evidence.curve("l0", "emb", variant=variant, embedding_norm=norm)
    return None


def _removable(curve: Curve) -> str:
    return f"{'at least ' if curve.open_ended else ''}{curve.removable().value:.0f}%"
