"""Claims about training the gates: where they close, at which rate, at what cost, how steadily."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd

from study.claims.estimate import F1, POINTS, Estimate
from study.claims.evidence import Evidence, basis_of, f1_of
from study.claims.judgement import Judgement, Lacking, claim
from study.claims.statistics import average, exact, mean_f1, mean_of, standard_deviation
from study.frames import KINDS, layer_shares
from study.paper.published_text import TEXT
from study.records.record import Record
from study.removable import MAX_LOSS

PROHIBITIVE = 10
"""Times the cost of training L0's gates: our line, the paper names none."""
SAME = ["model", "kind", "penalty", "seed"]
"""What two L0 runs have in common that are compared in one setting."""


@claim(
    4,
    "4.2.4",
    "intermediate layers retained more, while layers close to the embedding and close to the "
    "answer were pruned more heavily",
)
def middle_layers_keep_more(evidence: Evidence) -> Judgement:
    """On the large model at the selected λ, the middle third of the layers keeps a larger share
    than the third at the embedding, and than the third at the answer, of heads and of activations;
    over gate seeds."""
    multiple, pruned = next(iter(evidence.multiples("not retrained").items()))
    shares = layer_shares(evidence.runs.records)
    shares = shares[shares["run"].isin(pruned["run"])]
    third = shares["n_layers"] // 3
    place = shares["layer"].gt(third).astype(int) + shares["layer"].gt(shares["n_layers"] - third)
    findings, words = [], []
    for kind in ("attn", "ff"):
        of_kind = shares["kind"] == kind
        kept = shares[of_kind].groupby(["run", place[of_kind]])["remaining"].mean().unstack()
        first, last = (mean_of(kept[1] - kept[end], basis_of(pruned)) for end in (0, 2))
        findings += [
            first.above(0, POINTS, f"{KINDS[kind]} kept, middle minus embedding end"),
            last.above(0, POINTS, f"{KINDS[kind]} kept, middle minus answer end"),
        ]
        share = "{:.0f}% at the embedding end, {:.0f}% in the middle, {:.0f}% at the answer end"
        words.append(
            f"of the {KINDS[kind]} {share.format(*kept.mean())}: the middle keeps {first} points "
            f"more than the embedding end, {last} more than the answer end"
        )
    why = f"At {multiple:g}λ are kept {'; '.join(words)}{_one_seed(len(pruned))}."
    return Judgement(findings, why)


@claim(10, "4.2.2", "Leave-one-out requires a prohibitive number of passes … through the data")
def leave_one_out_prohibitive(evidence: Evidence) -> Judgement:
    """One pass for each activation, at the seconds a pass that leave-one-out took on heads, costs
    more than 10 times as much as training L0's gates of activations."""
    [heads, *_] = evidence.score_runs("leave_one_out", "attn")
    trained = evidence.score_runs("l0", "ff")
    shape: Any = evidence.finetuning_of(heads).metrics["shape"]
    scoring: Any = heads.metrics["scoring"]
    seconds = scoring["seconds"] / (shape["n_layers"] * shape["n_heads"])
    passes = shape["n_layers"] * shape["d_intermediate"]
    # a mean over hundreds of passes, far from the line: its own spread does not matter
    times = exact(passes * seconds / np.mean([_training(run)["seconds"] for run in trained]))
    return Judgement(
        [times.above(PROHIBITIVE, "times L0's training", "all passes over training L0's gates")],
        f"{passes:,} passes of {seconds:.2g} s are {passes * seconds / 3600:.2g} hours, "
        f"{times.value:,.0f} times as long as L0 trained.",
    )


@claim(13, "4.2.1", "We investigated learning rates of … on base-qa, and chose 10^-1")
def high_learning_rate(evidence: Evidence) -> Judgement:
    """At equal λ, steps and seed, gates trained at 1e-1 remove more than at 1e-2 and at 1e-3,
    and still lose less than 5 F1 points."""
    own = evidence.own_points(model=evidence.base)
    own = own[own["kind"] != "emb"]
    at = {
        rate: own[
            own["variant"].isin(["", f"learning rate {rate:g}"]) & own["learning_rate"].eq(rate)
        ]
        for rate in (0.1, 0.01, 0.001)
    }
    findings, words, tried = [], [], []
    for rate in (0.01, 0.001):
        high, low = _pairs(at[0.1], at[rate])
        if high.empty:
            raise Lacking(f"needs L0 at learning rates 0.1 and {rate:g}, with the same λ and seed")
        more = _more_removed(high, low)
        findings.append(more.above(0, POINTS, f"removed at 0.1 minus at {rate:g}"))
        words.append(f"{more} percentage points more than {rate:g}")
        tried.append(high)
    runs = pd.concat(tried).drop_duplicates(SAME)
    lost = average(
        [mean_f1([run["unpruned_articles"].iloc[0]]) - f1_of(run) for _, run in runs.groupby(SAME)]
    )
    findings.append(lost.below(MAX_LOSS, F1, "lost at 0.1"))
    return Judgement(
        findings,
        f"A learning rate of 0.1 removes {' and '.join(words)}, and loses {lost} F1 points"
        f"{_one_seed(len(runs), 'pair of runs')}.",
    )


@claim(
    14,
    "4.2.1",
    "The cost of training the gate parameters is comparable to extending fine tuning for an "
    "additional epoch",
)
def gates_cost_an_epoch(evidence: Evidence) -> Judgement:
    """An epoch of gate training takes 0.5 to 1.2 times as long as one of fine-tuning: seconds a
    window, over the L0 runs on the base model."""
    runs = evidence.score_runs("l0")
    ratio = mean_of(
        _seconds_a_window(run) / _seconds_a_window(evidence.finetuning_of(run)) for run in runs
    )
    return Judgement(
        [ratio.within(0.5, 1.2, "times", "an epoch of gate training over one of fine-tuning")],
        f"Over {len(runs)} runs an epoch of gate training took {ratio.value:.2f} times as long "
        "as one of fine-tuning.",
    )


@claim(
    25,
    "4.3.2",
    "selecting the gate values by L0 regularization for one epoch on approximately 20% of the NQ "
    "training data",
    ("nq",),
)
def few_questions_suffice(evidence: Evidence) -> Judgement:
    """At equal λ and seed, gates trained on 15 to 25% of the training questions are within 1 F1
    point of gates trained on all of them."""
    own = evidence.own_points()
    # nothing but their number of questions may tell the runs apart
    own = own[own["variant"].str.fullmatch(r"((\d+|all) questions)?")]
    share = own["scored_on"] / own["scored_on"].max()
    few, every = _pairs(own[share.between(0.15, 0.25)], own[share == 1])
    if few.empty:
        raise Lacking("needs L0 at one λ and seed on about 20% and on all of the questions")
    apart = average([f1_of(few.iloc[[i]]) - f1_of(every.iloc[[i]]) for i in range(len(few))])
    return Judgement(
        [apart.within(-1, 1, F1, "gates of 20% of the questions minus gates of all")],
        f"Gates trained on {100 * share[few.index].mean():.0f}% of the questions are {apart} F1 "
        f"points above gates of all of them, over {len(few)} pairs of runs.",
    )


@claim(
    27,
    "4.3.3",
    "the same values of … yield significantly less pruning for the distillation objective than for "
    "the cross-entropy objective",
    ("nq", "squad2"),
)
def distillation_prunes_less(evidence: Evidence) -> Judgement:
    """At equal λ and seed, gates trained with the distillation objective remove less than with
    cross-entropy."""
    own = evidence.own_points()
    plain, taught = _pairs(
        *(
            own[own["objective"].eq(name) & own["variant"].isin(["", name.replace("_", "-")])]
            for name in ("cross_entropy", "distillation")
        )
    )
    if plain.empty:
        raise Lacking("needs L0 with both objectives at the same λ and seed")
    more = _more_removed(plain, taught)
    return Judgement(
        [more.above(0, POINTS, "removed with cross-entropy minus with distillation")],
        f"At equal λ cross-entropy removes {more} percentage points more than distillation"
        f"{_one_seed(len(plain), 'pair of runs')}.",
    )


@claim(
    31,
    "4.3.3",
    "Averaging across five different initializations (random seeds) of gate parameters … attention "
    "heads pruned by 60.0±1.0%, feed-forward activations pruned by 71.9±0.1%",
    ("nq", "squad2"),
)
def seeds_agree(evidence: Evidence) -> Judgement:
    """Over three or more gate seeds, the standard deviations are not above the paper's largest: 1.7
    percentage points of heads, 0.4 of activations, 0.2 F1 points after retraining. (Rounding of
    sizes is not part of the runs.)"""
    then = "distillation" if evidence.data == "nq" else "cross-entropy"
    groups = evidence.multiples(then).values()
    rows = max(groups, key=lambda rows: rows["gate_seed"].nunique()).drop_duplicates("gate_seed")
    if len(rows) < 3:
        raise Lacking("needs at least three gate seeds at one λ, pruned and retrained")
    findings, words = [], []
    for column, limit, unit, name in (
        ("attn_removed", "base_pruned_attn_removed", POINTS, "heads removed"),
        ("ff_removed", "base_pruned_ff_removed", POINTS, "activations removed"),
        ("f1", "base_pruned_short_f1", F1, "F1 after retraining"),
    ):
        deviation = standard_deviation(rows[column], basis_of(rows))
        label = f"standard deviation of {name}"
        findings.append(deviation.below(cast(float, TEXT[limit].sd), unit, label))
        words.append(f"{deviation} of {name}")
    why = f"Over {len(rows)} gate seeds the standard deviations are {', '.join(words)}."
    return Judgement(findings, why)


def _pairs(one: pd.DataFrame, other: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Points of L0 runs that are alike but for one setting: two frames, row by row."""
    pairs = one.reset_index().merge(other.reset_index(), on=SAME)
    return one.loc[pairs["index_x"]], other.loc[pairs["index_y"]]


def _more_removed(one: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    more = one["removed"].to_numpy() - other["removed"].to_numpy()
    return mean_of(more, basis_of(pd.concat([one, other])))


def _training(run: Record) -> Any:
    return run.metrics["training"]


def _seconds_a_window(run: Record) -> float:
    batch_size: Any = run.parameters["batch_size"]
    return float(_training(run)["seconds_per_step"]) / batch_size


def _one_seed(n: int, what: str = "gate seed") -> str:
    """What a reader must know where there is no interval."""
    return f" (one {what}, so its spread is not known)" if n == 1 else ""
