"""Claims about decoding time. Its spread is the range over the rounds of one measurement."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from study.claims.estimate import F1, over_rounds
from study.claims.evidence import Evidence, f1_of
from study.claims.judgement import WORST_FIRST, Judgement, Lacking, Parts, claim
from study.paper.published_text import TEXT
from study.records.record import Record


@claim(
    2,
    "Abstract, section 4.2.3",
    "nearly doubles the decoding speed, with a loss of less than 1.5 F1 points",
)
def twice_as_fast_on_squad(evidence: Evidence) -> Parts:
    """At some multiple of λ, after continued training with cross-entropy (in the paper one more
    epoch; here what the profile says), the large model decodes over 1.9 times as fast and loses
    less than 1.5 F1 points. Of n multiples each loss is tested at 5%/n (Bonferroni and Holm)."""
    return (yield from _fast(evidence, "cross-entropy", 1.9, TEXT["squad_loss_below"].value))


@claim(
    3,
    "Abstract, section 4.3.3",
    "almost doubles the inference speed of RoBERTa-large based model for Natural Questions, while "
    "losing less than 0.5 F1-point on short answers",
    ("nq",),
)
def twice_as_fast_on_nq(evidence: Evidence) -> Parts:
    """At some multiple of λ, after distillation, the large model decodes over 1.8 times as fast and
    loses less than 0.5 short-answer F1 points, on questions in the format of Natural Questions. Of
    n multiples each loss is tested at 5%/n (Bonferroni and Holm)."""
    return (yield from _fast(evidence, "distillation", 1.8, TEXT["nq_loss_below"].value))


@claim(
    19,
    "4.2.3",
    "The speedup in decoding due to pruning the model is not simply proportional to the amount "
    "pruned",
)
def time_has_a_constant(evidence: Evidence) -> Parts:
    """In t = c + A·(1 − share of heads removed) + F·(1 − share of activations removed), fitted to
    the decoding times of the large model and its pruned models, c is above 0."""
    run, timed, rounds = _rounds(evidence)
    kept = 1 - timed[["attn_removed", "ff_removed"]].to_numpy() / 100
    design = np.column_stack([np.ones(len(kept)), kept])
    if np.linalg.matrix_rank(design, tol=1e-3) < 3:
        raise Lacking("needs decoding times of models pruned of heads and activations apart")
    # one fit for the medians and one for each round; times in percent of the unpruned model's
    times = np.vstack([np.median(rounds, axis=0), rounds])
    constant, *_ = np.linalg.lstsq(design, (100 * times / times[:, :1]).T, rcond=None)[0]
    share = over_rounds(float(constant[0]), constant[1:])
    yield share.above(0, "% of the unpruned time", "part of the time that pruning leaves")
    return (
        f"{share}% of the unpruned model's decoding time (batch {run.parameters['batch_size']}) "
        f"depends neither on heads nor on activations, fitted to {len(timed)} models."
    )


@claim(
    29,
    "4.3.3",
    "the number of parameters is well-correlated with the decoding time for this set of "
    "experiments",
    ("nq", "squad2"),
)
def parameters_tell_time(evidence: Evidence) -> Parts:
    """Spearman's rank correlation of decoding time with the number of parameters, in total and of
    the encoder, is at least 0.9, over four models or more."""
    (_, timed, rounds), words = _rounds(evidence), []
    if timed["parameters"].nunique() < 4:
        raise Lacking("needs the decoding times of four models of different sizes")
    times = [np.median(rounds, axis=0), *rounds]
    for size, name in (("", "all parameters"), ("encoder_", "the encoder's parameters")):
        each = [spearmanr(timed[f"{size}parameters"], seconds).statistic for seconds in times]
        first, *others = (round(float(ρ), 12) for ρ in each)  # a fraction: 0.9 is 0.9
        yield over_rounds(first, others).within(0.9, 1, "ρ", f"decoding time with {name}")
        words.append(f"{first:.2f} with {name}")
    ranks = " and ".join(words)
    return f"Over {len(timed)} models decoding time has a rank correlation of {ranks}."


def _fast(evidence: Evidence, then: str, speed: float, loss: float) -> Parts:
    """The best of all multiples of λ; models that bear no verdict come last."""
    unpruned, choices = evidence.unpruned(), []
    timed = {m: r for m, r in evidence.multiples(then).items() if r["speedup"].notna().any()}
    for multiple, rows in timed.items():
        low, high = rows["speedup_low"].min(), rows["speedup_high"].max()
        faster = over_rounds(float(rows["speedup"].median()), [low, high])
        lost = replace(unpruned - f1_of(rows), tests=len(timed))
        findings = (
            faster.above(speed, "times", f"decoding speed at {multiple:g}λ"),
            lost.below(loss, F1, f"lost at {multiple:g}λ, after {then}"),
        )
        why = (
            f"At {multiple:g}λ, after {then}, the pruned model decodes {faster.value:.2f} times as "
            f"fast ({low:.2f} to {high:.2f} over the rounds) and loses {lost} F1 points."
        )
        judged = Judgement(findings, why)
        missed = max(0, 1 - faster.value / speed) + max(0, lost.value / loss - 1)
        rank = not findings[1].at_floor, WORST_FIRST.index(judged.outcome), -missed
        choices.append((rank, judged))
    if not choices:
        raise Lacking(f"needs the decoding times of the models pruned and retrained ({then})")
    _, best = max(choices, key=lambda choice: choice[0])
    yield from best.findings
    return best.why


def _rounds(evidence: Evidence) -> tuple[Record, pd.DataFrame, np.ndarray]:
    """The timing run of most of the models, these, and their seconds, [n_rounds, n_models]."""
    runs = [run for run in evidence.runs.of("time") if run.parameters["data"] == evidence.data]
    if not runs:
        raise Lacking(f"needs a timing run on {evidence.data}")
    models = evidence.model_rows()
    topology = models["point"].where(models["point"].ne(""), models["finetune"])
    models = models.set_index("run:" + topology)
    models = models[~models.index.duplicated()]
    run = max(runs, key=lambda run: len(models.index.intersection(list(run.metrics))))
    timings: Any = run.metrics
    timed = models.loc[[name for name in timings if name in models.index]]
    return run, timed, np.array([timings[name]["rounds"] for name in timed.index]).T
