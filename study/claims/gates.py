"""Claims about training the gates: where they close, at which rate, at what cost, how steadily."""

from __future__ import annotations

from typing import Any

import numpy as np

from study.claims.curve import MAX_LOSS
from study.claims.evidence import Evidence
from study.claims.judgement import (
    Lacking,
    Outcome,
    above,
    below,
    claim,
    within,
)
from study.claims.statistics import (
    average,
    exact,
    mean_f1,
    mean_of,
    standard_deviation,
)
from study.frames import KINDS, layer_shares
from study.linked import id_of
from study.paper.published_text import TEXT
from study.records.record import Record

F1 = "F1 points"
POINTS = "percentage points"
PROHIBITIVE = 10
"""Times the cost of training L0's gates: our line, the paper names none."""


@claim(
    4,
    "Section 4.2.4",
    "intermediate layers retained more, while layers close to the embedding and close to the "
    "answer were pruned more heavily",
)
def middle_layers_keep_more(evidence: Evidence) -> Outcome:
    """On the large model at the selected λ, the middle third of the layers keeps a larger share
    than the outer thirds, of heads and of activations; over gate seeds."""
    shares = layer_shares(evidence.runs.records)
    multiple, pruned = next(iter(evidence.multiples("not retrained").items()))
    shares = shares[shares["run"].isin(pruned["run"])]
    findings, words = [], []
    for kind in ("attn", "ff"):
        rows = shares[shares["kind"] == kind]
        third = rows["n_layers"] // 3
        outer = (rows["layer"] <= third) | (rows["layer"] > rows["n_layers"] - third)
        kept = rows.groupby([rows["run"], outer])["remaining"].mean().unstack()
        more = mean_of(kept[False] - kept[True], seeds=len(kept))
        findings.append(above(more, 0, POINTS, f"{KINDS[kind]} kept, middle minus outer layers"))
        words.append(f"{more} percentage points more of the {KINDS[kind]}")
    return Outcome(
        tuple(findings),
        f"At {multiple:g}λ the middle layers keep {' and '.join(words)} than the outer ones"
        f"{_one_seed(len(pruned))}.",
    )


@claim(
    10,
    "Section 4.2.2",
    "Leave-one-out requires a prohibitive number of passes … through the data",
)
def leave_one_out_prohibitive(evidence: Evidence) -> Outcome:
    """One pass for each activation, at the seconds a pass that leave-one-out took on heads, costs
    more than 10 times as much as training L0's gates of activations."""
    [heads, *_] = evidence.score_runs("leave_one_out", "attn")
    trained = evidence.score_runs("l0", "ff")
    shape: Any = evidence.finetuning_of(heads).metrics["shape"]
    scoring: Any = heads.metrics["scoring"]
    seconds = scoring["seconds"] / (shape["n_layers"] * shape["n_heads"])
    passes = shape["n_layers"] * shape["d_intermediate"]
    l0 = float(np.mean([_training(run)["seconds"] for run in trained]))
    # a mean over hundreds of passes, far from the line: its own spread does not matter
    times = exact(passes * seconds / l0)
    return Outcome(
        (above(times, PROHIBITIVE, "times L0's training", "all passes over training L0's gates"),),
        f"{passes:,} passes of {seconds:.2g} s are {passes * seconds / 3600:.2g} hours, "
        f"{times.value:,.0f} times as long as L0 trained.",
    )


@claim(13, "Section 4.2.1", "We investigated learning rates of … on base-qa, and chose 10^-1")
def high_learning_rate(evidence: Evidence) -> Outcome:
    """At equal λ, steps and seed, gates trained at 1e-1 remove more than at 1e-2 and at 1e-3,
    and still lose less than 5 F1 points."""
    findings, words = [], []
    for rate in (0.01, 0.001):
        pairs = _at_rate(evidence, 0.1).merge(
            _at_rate(evidence, rate), on=["kind", "penalty", "seed"], suffixes=("", "_low")
        )
        if pairs.empty:
            raise Lacking(f"needs L0 at learning rates 0.1 and {rate:g}, with the same λ and seed")
        more = mean_of(pairs["removed"] - pairs["removed_low"], seeds=pairs["seed"].nunique())
        findings.append(above(more, 0, POINTS, f"removed at 0.1 minus at {rate:g}"))
        words.append(f"{more} percentage points more than {rate:g}")
    losses = [
        mean_f1([run["unpruned_articles"]]) - mean_f1([run["articles"]], seeds=1)
        for run in pairs.to_dict("records")
    ]
    loss = average(losses)
    findings.append(below(loss, MAX_LOSS, F1, "lost at 0.1"))
    return Outcome(
        tuple(findings),
        f"A learning rate of 0.1 removes {' and '.join(words)}, and loses {loss} F1 points"
        f"{_one_seed(len(pairs), 'pair of runs')}.",
    )


@claim(
    14,
    "Section 4.2.1",
    "The cost of training the gate parameters is comparable to extending fine tuning for an "
    "additional epoch",
)
def gates_cost_an_epoch(evidence: Evidence) -> Outcome:
    """An epoch of gate training takes 0.5 to 1.2 times as long as one of fine-tuning: seconds a
    window, over the L0 runs on the base model."""
    ratios = [
        _seconds_a_window(run) / _seconds_a_window(evidence.finetuning_of(run))
        for run in evidence.score_runs("l0")
    ]
    ratio = mean_of(ratios)
    return Outcome(
        (within(ratio, 0.5, 1.2, "times", "an epoch of gate training over one of fine-tuning"),),
        f"Over {len(ratios)} runs an epoch of gate training took {ratio.value:.2f} times as long "
        "as one of fine-tuning.",
    )


@claim(
    27,
    "Section 4.3.3",
    "the same values of … yield significantly less pruning for the distillation objective than for "
    "the cross-entropy objective",
    data=("nq", "squad2"),
)
def distillation_prunes_less(evidence: Evidence) -> Outcome:
    """At equal λ and seed, gates trained with the distillation objective remove less than with
    cross-entropy."""
    own = evidence.own_points()
    by = {
        name: own[(own["objective"] == name) & own["variant"].isin(("", name.replace("_", "-")))]
        for name in ("cross_entropy", "distillation")
    }
    same = ["model", "kind", "penalty", "seed"]
    pairs = by["cross_entropy"].merge(by["distillation"], on=same)
    if pairs.empty:
        raise Lacking("needs L0 with both objectives at the same λ and seed")
    more = mean_of(pairs["removed_x"] - pairs["removed_y"], seeds=pairs["seed"].nunique())
    return Outcome(
        (above(more, 0, POINTS, "removed with cross-entropy minus with distillation"),),
        f"At equal λ cross-entropy removes {more} percentage points more than distillation"
        f"{_one_seed(len(pairs), 'pair of runs')}.",
    )


@claim(
    31,
    "Section 4.3.3",
    "Averaging across five different initializations (random seeds) of gate parameters … attention "
    "heads pruned by 60.0±1.0%, feed-forward activations pruned by 71.9±0.1%",
    data=("nq", "squad2"),
)
def seeds_agree(evidence: Evidence) -> Outcome:
    """Over three or more gate seeds, the standard deviations are not above the paper's largest: 1.7
    percentage points of heads, 0.4 of activations, 0.2 F1 points after retraining. (Rounding of
    sizes is not part of the runs.)"""
    then = "distillation" if evidence.data == "nq" else "cross-entropy"
    groups = [rows for rows in evidence.multiples(then).values() if len(rows) > 1]
    rows = max(groups, key=lambda rows: rows["gate_seed"].nunique(), default=None)
    if rows is None or (n := rows["gate_seed"].nunique()) < 3:
        raise Lacking("needs at least three gate seeds at one λ, pruned and retrained")
    rows = rows.drop_duplicates("gate_seed")
    limits = {
        "attn_removed": (TEXT["base_pruned_attn_removed"].sd, POINTS, "heads removed"),
        "ff_removed": (TEXT["base_pruned_ff_removed"].sd, POINTS, "activations removed"),
        "f1": (TEXT["base_pruned_short_f1"].sd, F1, "F1 after retraining"),
    }
    findings, words = [], []
    for column, (limit, unit, name) in limits.items():
        assert limit is not None
        deviation = standard_deviation(list(rows[column]), seeds=n)
        findings.append(below(deviation, limit, unit, f"standard deviation of {name}"))
        words.append(f"{deviation} of {name}")
    return Outcome(
        tuple(findings), f"Over {n} gate seeds the standard deviations are {', '.join(words)}."
    )


def _at_rate(evidence: Evidence, rate: float) -> Any:
    """L0 points at one learning rate that differ from the main sweep in nothing else."""
    own = evidence.own_points()
    own = own[own["variant"].isin(("", f"learning rate {rate:g}")) & (own["kind"] != "emb")]
    return own[(own["learning_rate"] == rate) & (own["model"] == evidence.base)]


def _training(run: Record) -> Any:
    found = run.metrics.get("training")
    if found is None:
        raise Lacking(f"needs the training times of {id_of(run)}")
    return found


def _seconds_a_window(run: Record) -> float:
    batch_size: Any = run.parameters["batch_size"]
    return float(_training(run)["seconds_per_step"]) / batch_size


def _one_seed(n: int, what: str = "gate seed") -> str:
    """What a reader must know where there is no interval."""
    return f" (one {what}, so its spread is not known)" if n == 1 else ""
