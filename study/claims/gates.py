"""Claims about training the gates: where they close, at which rate, at what cost, how steadily."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd

from study.claims.curve import MAX_LOSS
from study.claims.estimate import F1, POINTS, Estimate, average, exact, mean_of, standard_deviation
from study.claims.evidence import Evidence, basis_of, f1_of, unpruned_f1
from study.claims.judgement import Lacking, Parts, claim
from study.frames import KINDS, layer_shares
from study.paper.published_text import TEXT
from study.records.record import Record

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
def middle_layers_keep_more(evidence: Evidence) -> Parts:
    """On the large model at the selected λ, the middle third of the layers keeps a larger share
    than the third at the embedding, and than the third at the answer, of heads and of activations;
    over gate seeds."""
    multiple, pruned = next(iter(evidence.multiples("not retrained").items()))
    layers = layer_shares(evidence.runs.records)
    layers = layers[layers["run"].isin(pruned["run"])]
    third, n_layers = layers["n_layers"] // 3, layers["n_layers"]
    place = layers["layer"].gt(third).astype(int) + layers["layer"].gt(n_layers - third)
    shares = layers.groupby(["kind", "run", place])["remaining"].mean().unstack()
    words = []
    for kind in ("attn", "ff"):
        first, middle, last = shares.xs(kind).to_numpy().T
        over = [mean_of(middle - end, basis_of(pruned)) for end in (first, last)]
        yield over[0].above(0, POINTS, f"{KINDS[kind]} kept, middle minus embedding end")
        yield over[1].above(0, POINTS, f"{KINDS[kind]} kept, middle minus answer end")
        words.append(
            f"of the {KINDS[kind]} {first.mean():.0f}% at the embedding end, {middle.mean():.0f}% "
            f"in the middle, {last.mean():.0f}% at the answer end: the middle keeps {over[0]} "
            f"points more than the embedding end, {over[1]} more than the answer end"
        )
    return f"At {multiple:g}λ are kept {'; '.join(words)}{_one_seed(len(pruned))}."


@claim(10, "4.2.2", "Leave-one-out requires a prohibitive number of passes … through the data")
def leave_one_out_prohibitive(evidence: Evidence) -> Parts:
    """One pass for each activation, at the seconds a pass that leave-one-out took on heads, costs
    more than 10 times as much as training L0's gates of activations."""
    [heads, *_] = evidence.score_runs("leave_one_out", "attn")
    trained = [run.metrics["training"] for run in evidence.score_runs("l0", "ff")]
    shape, scoring = evidence.finetuning_of(heads).metrics["shape"], heads.metrics["scoring"]
    seconds = scoring["seconds"] / (shape["n_layers"] * shape["n_heads"])
    passes = shape["n_layers"] * shape["d_intermediate"]
    # a mean over hundreds of passes, far from the line: its own spread does not matter
    times = exact(passes * seconds / np.mean([training["seconds"] for training in trained]))
    yield times.above(PROHIBITIVE, "times L0's training", "all passes over training L0's gates")
    return (
        f"{passes:,} passes of {seconds:.2g} s are {passes * seconds / 3600:.2g} hours, "
        f"{times.value:,.0f} times as long as L0 trained."
    )


@claim(13, "4.2.1", "We investigated learning rates of … on base-qa, and chose 10^-1")
def high_learning_rate(evidence: Evidence) -> Parts:
    """At equal λ, steps and seed, gates trained at 1e-1 remove more than at 1e-2 and at 1e-3,
    and still lose less than 5 F1 points."""
    own = evidence.own_points()
    own = own[own["model"].eq(evidence.base) & own["kind"].ne("emb")]
    plain, words, tried = own["variant"].eq(""), [], []
    high = own[(plain | own["variant"].eq("learning rate 0.1")) & own["learning_rate"].eq(0.1)]
    for rate in (0.01, 0.001):
        changed = plain | own["variant"].eq(f"learning rate {rate:g}")
        one, other = _pairs(high, own[changed & own["learning_rate"].eq(rate)])
        if one.empty:
            raise Lacking(f"needs L0 at learning rates 0.1 and {rate:g}, with the same λ and seed")
        more = _more_removed(one, other)
        yield more.above(0, POINTS, f"removed at 0.1 minus at {rate:g}")
        words.append(f"{more} percentage points more than {rate:g}")
        tried.append(one)
    runs = [run for _, run in pd.concat(tried).drop_duplicates(SAME).groupby(SAME)]
    lost = average([unpruned_f1(run) - f1_of(run) for run in runs])
    yield lost.below(MAX_LOSS, F1, "lost at 0.1")
    return (
        f"A learning rate of 0.1 removes {' and '.join(words)}, and loses {lost} F1 points"
        f"{_one_seed(len(runs), 'pair of runs')}."
    )


@claim(
    14,
    "4.2.1",
    "The cost of training the gate parameters is comparable to extending fine tuning for an "
    "additional epoch",
)
def gates_cost_an_epoch(evidence: Evidence) -> Parts:
    """An epoch of gate training takes 0.5 to 1.2 times as long as one of fine-tuning: seconds a
    window, over the L0 runs on the base model."""
    runs = evidence.score_runs("l0")
    each = (_seconds_a_window(run) / _seconds_a_window(evidence.finetuning_of(run)) for run in runs)
    ratio = mean_of(each)
    yield ratio.within(0.5, 1.2, "times", "an epoch of gate training over one of fine-tuning")
    return (
        f"Over {len(runs)} runs an epoch of gate training took {ratio.value:.2f} times as long "
        "as one of fine-tuning."
    )


@claim(
    25,
    "4.3.2",
    "selecting the gate values by L0 regularization for one epoch on approximately 20% of the NQ "
    "training data",
    ("nq",),
)
def few_questions_suffice(evidence: Evidence) -> Parts:
    """At equal λ and seed, gates trained on 15 to 25% of the training questions are within 1 F1
    point of gates trained on all of them."""
    own = evidence.own_points()
    # nothing but their number of questions may tell the runs apart
    own = own[own["variant"].str.fullmatch(r"((\d+|all) questions)?")]
    share = own["scored_on"] / own["scored_on"].max()
    few, every = _pairs(own[share.between(0.15, 0.25)], own[share == 1])
    if few.empty:
        raise Lacking("needs L0 at one λ and seed on about 20% and on all of the questions")
    pairs = [(few.iloc[[i]], every.iloc[[i]]) for i in range(len(few))]
    apart = average([f1_of(one) - f1_of(other) for one, other in pairs])
    yield apart.within(-1, 1, F1, "gates of 20% of the questions minus gates of all")
    return (
        f"Gates trained on {100 * share[few.index].mean():.0f}% of the questions are {apart} F1 "
        f"points above gates of all of them, over {len(few)} pairs of runs."
    )


@claim(
    27,
    "4.3.3",
    "the same values of … yield significantly less pruning for the distillation objective than for "
    "the cross-entropy objective",
    ("nq", "squad2"),
)
def distillation_prunes_less(evidence: Evidence) -> Parts:
    """At equal λ and seed, gates trained with the distillation objective remove less than with
    cross-entropy."""
    own = evidence.own_points()
    plain, taught = (
        own[own["objective"].eq(name) & own["variant"].isin(["", name.replace("_", "-")])]
        for name in ("cross_entropy", "distillation")
    )
    plain, taught = _pairs(plain, taught)
    if plain.empty:
        raise Lacking("needs L0 with both objectives at the same λ and seed")
    more = _more_removed(plain, taught)
    yield more.above(0, POINTS, "removed with cross-entropy minus with distillation")
    return (
        f"At equal λ cross-entropy removes {more} percentage points more than distillation"
        f"{_one_seed(len(plain), 'pair of runs')}."
    )


@claim(
    31,
    "4.3.3",
    "Averaging across five different initializations (random seeds) of gate parameters … attention "
    "heads pruned by 60.0±1.0%, feed-forward activations pruned by 71.9±0.1%",
    ("nq", "squad2"),
)
def seeds_agree(evidence: Evidence) -> Parts:
    """Over three or more gate seeds, the standard deviations are not above the paper's largest: 1.7
    percentage points of heads, 0.4 of activations, 0.2 F1 points after retraining. (Rounding of
    sizes is not part of the runs.)"""
    groups = evidence.multiples("distillation" if evidence.data == "nq" else "cross-entropy")
    rows = max(groups.values(), key=lambda rows: rows["gate_seed"].nunique())
    rows = rows.drop_duplicates("gate_seed")
    if len(rows) < 3:
        raise Lacking("needs at least three gate seeds at one λ, pruned and retrained")
    words = []
    for column, published, unit, name in (
        ("attn_removed", "base_pruned_attn_removed", POINTS, "heads removed"),
        ("ff_removed", "base_pruned_ff_removed", POINTS, "activations removed"),
        ("f1", "base_pruned_short_f1", F1, "F1 after retraining"),
    ):
        deviation, limit = standard_deviation(rows[column], basis_of(rows)), TEXT[published].sd
        yield deviation.below(cast(float, limit), unit, f"standard deviation of {name}")
        words.append(f"{deviation} of {name}")
    return f"Over {len(rows)} gate seeds the standard deviations are {', '.join(words)}."


def _pairs(one: pd.DataFrame, other: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Points of L0 runs that are alike but for one setting: two frames, row by row."""
    pairs = one.reset_index().merge(other.reset_index(), on=SAME)
    return one.loc[pairs["index_x"]], other.loc[pairs["index_y"]]


def _more_removed(one: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    more = one["removed"].to_numpy() - other["removed"].to_numpy()
    return mean_of(more, basis_of(pd.concat([one, other])))


def _seconds_a_window(run: Record) -> float:
    training: Any = run.metrics["training"]
    return float(training["seconds_per_step"]) / cast(int, run.parameters["batch_size"])


def _one_seed(n: int, what: str = "gate seed") -> str:
    """What a reader must know where there is no interval."""
    return f" (one {what}, so its spread is not known)" if n == 1 else ""
