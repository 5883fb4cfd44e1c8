"""Claims about Natural Questions: do the techniques, and the gates themselves, carry over?"""

from __future__ import annotations

from typing import Any

from study.claims.evidence import Evidence, f1_of
from study.claims.judgement import Lacking, Outcome, above, claim, within
from study.claims.statistics import average, mean_f1
from study.frames import KINDS

F1 = "F1 points"
NQ = ("nq",)


@claim(20, "Sections 4.1 and 4.3", "the same techniques are applicable on the NQ dataset", data=NQ)
def techniques_work_on_nq(evidence: Evidence) -> Outcome:
    """On questions in the format of Natural Questions, L0 is above random at the shares that it
    removes by itself, for heads and for activations."""
    findings, words = [], []
    for kind in ("attn", "ff"):
        l0, random = evidence.curve("l0", kind), evidence.curve("random", kind)
        places = [x for x in l0.x[1:] if x <= random.end]
        if not places:
            raise Lacking(f"needs random cuts of {KINDS[kind]} as far as L0 prunes")
        ahead = average([l0.at(x) - random.at(x) for x in places])
        findings.append(above(ahead, 0, F1, f"L0 minus random, {KINDS[kind]}"))
        words.append(f"{ahead} F1 points on {KINDS[kind]}")
    return Outcome(tuple(findings), f"L0 is above random by {' and '.join(words)}.")


@claim(
    21,
    "Section 4.3.1",
    "the redundancies in BERT that are removed by pruning and not tied so specifically to a given "
    "task or domain",
    data=NQ,
)
def gates_transfer(evidence: Evidence) -> Outcome:
    """Retrained on Natural Questions with cross-entropy, a model with gates found on SQuAD is above
    one with as many slices chosen at random, and within 1 F1 point of one with gates found on
    Natural Questions."""
    # all from one model's weights: Table 3's arm, which goes on from SQuAD's, is trained more
    same = {"then": "cross-entropy", "kinds": "both", "variant": "", "weights_from": "nq"}
    rows = evidence.model_rows(**same)
    rows = rows[rows["multiple"] == rows["multiple"].min()]
    squad = rows[(rows["gates_from"] != "nq") & (rows["choice"] == "scores")]
    nq = rows[(rows["gates_from"] == "nq") & (rows["choice"] == "scores")]
    random = rows[rows["choice"] == "random"]
    for arm, name in ((squad, "SQuAD's gates"), (nq, "NQ's gates"), (random, "random gates")):
        if arm.empty:
            raise Lacking(f"needs a model pruned with {name} and retrained on nq")
    over, apart = f1_of(squad) - f1_of(random), f1_of(squad) - f1_of(nq)
    return Outcome(
        (
            above(over, 0, F1, "SQuAD's gates minus random ones"),
            within(apart, -1, 1, F1, "SQuAD's gates minus NQ's"),
        ),
        f"With SQuAD's gates the model is {over} F1 points above random ones, and {apart} above "
        "those found on Natural Questions.",
    )


@claim(
    25,
    "Section 4.3.2",
    "selecting the gate values by L0 regularization for one epoch on approximately 20% of the NQ "
    "training data",
    data=NQ,
)
def few_questions_suffice(evidence: Evidence) -> Outcome:
    """At equal λ and seed, gates trained on 15 to 25% of the training questions are within 1 F1
    point of gates trained on all of them."""
    points = evidence.own_points()
    # nothing but their number of questions may tell the runs apart
    points = points[points["variant"].str.fullmatch(r"((\d+|all) questions)?")]
    trained_on = [_questions(evidence, run) for run in points["run"]]
    points = points.assign(share=[n / max(trained_on) for n in trained_on])
    few, every = points[points["share"].between(0.15, 0.25)], points[points["share"] == 1]
    pairs = few.merge(every, on=["model", "kind", "penalty", "seed"])
    if pairs.empty:
        raise Lacking("needs L0 at one λ and seed on about 20% and on all of the questions")
    apart = average(
        [
            mean_f1([pair["articles_x"]], seeds=1) - mean_f1([pair["articles_y"]], seeds=1)
            for pair in pairs.to_dict("records")
        ]
    )
    return Outcome(
        (within(apart, -1, 1, F1, "gates of 20% of the questions minus gates of all"),),
        f"Gates trained on {100 * pairs['share_x'].mean():.0f}% of the questions are {apart} F1 "
        f"points above gates of all of them, over {len(pairs)} pairs of runs.",
    )


def _questions(evidence: Evidence, run: str) -> int:
    """How many questions a score run was trained on."""
    record = evidence.record(run)
    metrics: Any = record.metrics if record else {}
    return int(metrics["scoring"]["questions"])
