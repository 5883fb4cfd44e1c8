"""Claims about decoding time. Its spread is the range over the rounds of one measurement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from study.claims.evidence import Evidence, f1_of
from study.claims.judgement import (
    Lacking,
    Outcome,
    above,
    below,
    claim,
    strength,
    within,
)
from study.claims.statistics import over_rounds
from study.paper.published_text import TEXT
from study.records.record import Record

F1 = "F1 points"


@claim(
    2,
    "Abstract, section 4.2.3",
    "nearly doubles the decoding speed, with a loss of less than 1.5 F1 points",
)
def twice_as_fast_on_squad(evidence: Evidence) -> Outcome:
    """At some multiple of λ, after continued training with cross-entropy (in the paper one more
    epoch; here what the profile says), the large model decodes over 1.9 times as fast and loses
    less than 1.5 F1 points."""
    return _fast_and_accurate(evidence, "cross-entropy", 1.9, TEXT["squad_loss_below"].value)


@claim(
    3,
    "Abstract, section 4.3.3",
    "almost doubles the inference speed of RoBERTa-large based model for Natural Questions, while "
    "losing less than 0.5 F1-point on short answers",
    data=("nq",),
)
def twice_as_fast_on_nq(evidence: Evidence) -> Outcome:
    """At some multiple of λ, after distillation, the large model decodes over 1.8 times as fast and
    loses less than 0.5 short-answer F1 points, on questions in the format of Natural Questions."""
    return _fast_and_accurate(evidence, "distillation", 1.8, TEXT["nq_loss_below"].value)


@claim(
    19,
    "Section 4.2.3",
    "The speedup in decoding due to pruning the model is not simply proportional to the amount "
    "pruned",
)
def time_has_a_constant(evidence: Evidence) -> Outcome:
    """In t = c + A·(1 − share of heads removed) + F·(1 − share of activations removed), fitted to
    the decoding times of the large model and its pruned models, c is above 0."""
    run, names, rounds = _rounds(evidence)
    removed = {row["point"]: row for row in evidence.model_rows().to_dict("records")}
    kept = [
        (1 - removed[name]["attn_removed"] / 100, 1 - removed[name]["ff_removed"] / 100)
        if name in removed
        else (1.0, 1.0)
        for name in names
    ]
    design = np.column_stack([np.ones(len(kept)), np.array(kept)])
    if np.linalg.matrix_rank(design, tol=1e-3) < 3:
        raise Lacking("needs decoding times of models pruned of heads and activations apart")
    median = np.median(rounds, axis=0)
    # one fit for each round, and one for the medians; times in percent of the unpruned model's
    relative = 100 * np.vstack([median, rounds]) / np.vstack([median, rounds])[:, :1]
    constant, *_ = np.linalg.lstsq(design, relative.T, rcond=None)[0]
    share = over_rounds(float(constant[0]), constant[1:])
    return Outcome(
        (above(share, 0, "% of the unpruned time", "part of the time that pruning leaves"),),
        f"{share}% of the unpruned model's decoding time (batch {run.parameters['batch_size']}) "
        f"depends neither on heads nor on activations, fitted to {len(names)} models.",
    )


@claim(
    29,
    "Section 4.3.3",
    "the number of parameters is well-correlated with the decoding time for this set of "
    "experiments",
    data=("nq", "squad2"),
)
def parameters_tell_time(evidence: Evidence) -> Outcome:
    """Spearman's rank correlation of decoding time with the number of parameters, in total and of
    the encoder, is at least 0.9, over four models or more."""
    run, names, rounds = _rounds(evidence)
    rows = evidence.model_rows()
    metrics: Any = run.metrics
    encoder = {row["point"]: row["encoder_parameters"] for row in rows.to_dict("records")}
    sizes = {
        "all parameters": [metrics[name]["parameters"] for name in names],
        "the encoder's parameters": [encoder.get(name, encoder.get("")) for name in names],
    }
    if len(set(sizes["all parameters"])) < 4:
        raise Lacking("needs the decoding times of four models of different sizes")
    findings, words = [], []
    for name, size in sizes.items():
        each = [_spearman(size, seconds) for seconds in rounds]
        correlation = over_rounds(_spearman(size, np.median(rounds, axis=0)), each)
        findings.append(within(correlation, 0.9, 1, "ρ", f"decoding time with {name}"))
        words.append(f"{correlation.value:.2f} with {name}")
    return Outcome(
        tuple(findings),
        f"Over {len(names)} models decoding time has a rank correlation of {' and '.join(words)}.",
    )


def _fast_and_accurate(evidence: Evidence, then: str, speed: float, loss: float) -> Outcome:
    """The best of all multiples of λ."""
    unpruned = evidence.unpruned()
    outcomes = []
    for multiple, rows in evidence.multiples(then).items():
        timed = rows.dropna(subset="speedup")
        if timed.empty:
            continue
        low, high = timed["speedup_low"].min(), timed["speedup_high"].max()
        faster = over_rounds(float(timed["speedup"].median()), [low, high])
        lost = unpruned - f1_of(rows)
        findings = (
            above(faster, speed, "times", f"decoding speed at {multiple:g}λ"),
            below(lost, loss, F1, f"lost at {multiple:g}λ, after {then}"),
        )
        why = (
            f"At {multiple:g}λ, after {then}, the pruned model decodes {faster.value:.2f} times as "
            f"fast ({low:.2f} to {high:.2f} over the rounds) and loses {lost} F1 points."
        )
        outcomes.append(Outcome(findings, why))
    if not outcomes:
        raise Lacking(f"needs the decoding times of the models pruned and retrained ({then})")
    return max(outcomes, key=lambda outcome: (strength(outcome), -_distance(outcome)))


def _distance(outcome: Outcome) -> float:
    """How far the findings miss their lines, each relative to its line."""
    missed = (
        max(0.0, (f.line - f.value) * (1 if f.relation == "above" else -1) / f.line)
        for f in outcome.findings
    )
    return sum(missed)


def _rounds(evidence: Evidence) -> tuple[Record, list[str], np.ndarray]:
    """The timing run of most of the models, these, and their seconds, [n_rounds, n_models]."""
    runs = [run for run in evidence.runs.of("time") if run.parameters["data"] == evidence.data]
    if not runs:
        raise Lacking(f"needs a timing run on {evidence.data}")
    known = {*evidence.model_rows()["point"], *evidence.model_rows()["finetune"]}
    run = max(runs, key=lambda run: len(known & run.metrics.keys()))
    models: Any = run.parameters["models"]
    timings: Any = run.metrics
    names = [name for name in models if name in known]
    return run, names, np.array([timings[name]["rounds"] for name in names]).T


def _spearman(one: Iterable[float], other: Iterable[float]) -> float:
    """Pearson's correlation of the ranks, those of equal values averaged."""
    import pandas as pd

    ranks = pd.Series(list(one)).rank(), pd.Series(list(other)).rank()
    return round(float(ranks[0].corr(ranks[1])), 12)  # of ranks it is a fraction: 0.9 is 0.9
