"""A small sweep of made-up records, consistent in itself: its numbers follow from formulas here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from study.frames import SCORERS
from study.plan.parameters import (
    DecodeTime,
    Finetune,
    Prune,
    Retrain,
    ScoreGates,
    StageParameters,
)
from study.records.record import Record

N_LAYERS, N_HEADS, D_INTERMEDIATE = 6, 12, 48
UNPRUNED_F1 = 80.0
FRACTIONS = [0.2, 0.4, 0.6]
PENALTIES = {"attn": [0.02, 0.04, 0.08, 0.16], "ff": [1e-4, 2e-4, 4e-4, 8e-4]}
HEURISTICS: dict[str, dict[str, Any]] = {
    "gain": {"scorer": "gain", "kinds": ["attn", "ff"]},
    "gain at 0": {"scorer": "gain", "kinds": ["attn"], "options": {"at": 0}},
    "gain of emb": {"scorer": "gain", "kinds": ["emb"]},
    "leave-one-out": {"scorer": "leave_one_out", "kinds": ["attn"]},
    "Fisher": {"scorer": "fisher", "kinds": ["attn", "ff"]},
    "random": {"scorer": "random", "kinds": ["attn", "ff", "emb"], "random_seeds": 5},
}
SLOPES = {"l0": 8.0, "leave_one_out": 10.0, "fisher": 10.5, "gain": 11.0, "random": 45.0}
"""F1 lost when half of the heads are removed; activations lose half of that, embeddings thrice."""
KIND_FACTORS = {"attn": 1.0, "ff": 0.5, "emb": 3.0}


def lost(scorer: str, kind: str, removed: float, seed: int = 0) -> float:
    """F1 points lost with `removed` percent gone: quadratic, 0.1 more for each seed, 75 at most."""
    return min(SLOPES[scorer] * KIND_FACTORS[kind] * (removed / 50) ** 2 + 0.1 * seed, 75.0)


def removed_by(penalty: float, kind: str, seed: int = 0) -> float:
    """Percent that L0 removes by itself: 20 at the smallest λ, 15 more each time λ doubles."""
    return 20 + 15 * float(np.log2(penalty / PENALTIES.get(kind, [0.02])[0])) + seed


def articles(f1: float, n_articles: int = 12, questions: int = 20) -> list[list[float]]:
    """Questions and summed F1 of each article, whose overall mean is exactly `f1`."""
    spread = np.linspace(-3, 3, n_articles)
    return [[questions, questions * (f1 + float(off))] for off in spread]


def dev(f1: float, n_articles: int = 12, questions: int = 20) -> dict[str, Any]:
    """Scores on dev questions, of which half have an answer."""
    n = n_articles * questions
    scores = {"exact": f1 - 3, "f1": f1, "total": n, "HasAns_exact": f1 - 5, "HasAns_f1": f1 + 1}
    scores |= {"HasAns_total": n // 2, "NoAns_exact": f1 - 1, "NoAns_f1": f1 - 1}
    scores |= {"NoAns_total": n - n // 2}
    at_zero = scores | {"f1": f1 - 0.5}
    best = {"best_f1": f1 + 0.2, "best_f1_threshold": 0.1, "best_exact": f1 - 2.5}
    best |= {"best_exact_threshold": 0.0, "attainable_f1": f1 + 0.3, "attainable_f1_threshold": 0.1}
    given = {"f1": f1, "at_zero": at_zero, "fitted": scores, "threshold": 0.2, "answered": scores}
    return {**given, **best, "articles": articles(f1, n_articles, questions)}


def training(steps: int, seconds: float) -> dict[str, Any]:
    """What a training run says of itself."""
    losses = [[step, 2.0 / step] for step in range(10, steps + 1, 10)]
    per_step = {"seconds_per_step": seconds / steps, "final_loss": losses[-1][1]}
    return {"steps": steps, "seconds": seconds, "losses": losses, **per_step}


@dataclass
class Sweep:
    """A profile's records, in the order of its graph; `records` fills as runs are added.

    `large` None: the base model is the one that is pruned.
    """

    profile: str = "tiny"
    provenance: Literal["embedded", "measured"] = "embedded"
    data: str = "squad2"
    base: str = "minilm"
    large: str | None = None
    gate_seeds: int = 2
    multiples: tuple[float, ...] = (1.0, 2.0)
    records: list[Record] = field(default_factory=list)

    def run(self, stage: type[StageParameters], metrics: dict[str, Any], **values: Any) -> str:
        """Add a run with these parameters and return its id."""
        place = {"profile": self.profile, "provenance": self.provenance, "data": self.data}
        place["source"] = "embedded" if self.provenance == "embedded" else "files"
        parameters = stage.checked({**place, **values})
        return self.add(stage.stage, parameters.identity(), metrics)

    def add(self, stage: str, parameters: dict[str, Any], metrics: dict[str, Any]) -> str:
        """Add a record of any stage, once, and return its id."""
        made = Record(
            name=f"{stage}/{self.data}/made-up",
            stage=stage,
            profile=self.profile,
            provenance=self.provenance,
            parameters={name: self.referred(value) for name, value in parameters.items()},
            metrics={str(self.referred(name)): value for name, value in metrics.items()},
            commit="c0" * 20,
            dirty=False,
            source="made up",
            started="2026-01-01T00:00:00+00:00",
            seconds=60.0,
            device="a device",
            packages={"torch": "2.13.0"},
            data_digest="cd" * 32,
        )
        if made.id not in {record.id for record in self.records}:
            self.records.append(made)
        return made.id

    def referred(self, value: Any) -> Any:
        """Ids of other runs as parameters name them; anything else as it is."""
        if isinstance(value, list):
            return [self.referred(each) for each in value]
        is_run = isinstance(value, str) and re.search("-[0-9a-f]{10}$", value)
        return f"run:{value}" if is_run else value

    def finetune(self, model: str, f1: float = UNPRUNED_F1, **values: Any) -> str:
        """Fine-tune: 100 steps of one second."""
        shape = {"n_layers": N_LAYERS, "n_heads": N_HEADS, "head_size": 4}
        shape |= {"d_intermediate": D_INTERMEDIATE, "d_embedding": 48}
        sizes = {"parameters": 20_000_000, "encoder_parameters": 10_000_000, "shape": shape}
        metrics = {"training": training(100, 100.0), "dev": dev(f1), "heldout": dev(f1), **sizes}
        return self.run(Finetune, metrics, model=model, **values)

    def score(self, model: str, **values: Any) -> str:
        """Score gates with any scorer but L0, and cut the ranking at `FRACTIONS`."""
        asked = {"penalty_attn": None, "fractions": FRACTIONS, "model": model, **values}
        seeds = range(values.get("random_seeds", 1))
        curves = [
            self._curve(values["scorer"], kind, seed, [100 * share for share in FRACTIONS])
            for kind in values["kinds"]
            for seed in seeds
        ]
        options = [f"{name} {value}" for name, value in values.get("options", {}).items()]
        label = " ".join([SCORERS[values["scorer"]], *options])
        metrics = {"label": label, "unpruned": point(0.0, 0.0), "curves": curves}
        return self.run(ScoreGates, {**metrics, "scoring": {"seconds": 30.0}}, **asked)

    def l0(self, model: str, kind: str, penalty: float, seed: int = 0, **values: Any) -> str:
        """Train gates of one kind: 100 steps of 0.8 seconds. `shift` adds percent removed."""
        removed = removed_by(penalty, kind, seed) + values.pop("shift", 0.0)
        curve = self._curve("l0", kind, seed, [100 * share for share in FRACTIONS])
        curve["points"].append(point(removed, lost("l0", kind, removed, seed), own_threshold=True))
        metrics = {
            "label": SCORERS["l0"],
            "unpruned": point(0.0, 0.0),
            "curves": [curve],
            "scoring": {"seconds": 80.0},
            "kept": {kind: kept(kind, removed)},
            "removed": {kind: removed},
            "training": training(100, 80.0),
        }
        asked: dict[str, Any] = {"penalty_attn": None, f"penalty_{kind}": penalty}
        asked |= {"fractions": FRACTIONS, "model": model, "scorer": "l0", "kinds": [kind]}
        return self.run(ScoreGates, metrics, **{**asked, "seed": seed, **values})

    def prune(self, model: str, *, attn: str | None = None, ff: str | None = None, **v: Any) -> str:
        """Prune with the gates of score runs: what both kinds lose adds up."""
        gone = {
            kind: 0.0 if run is None else self.metrics(run)["removed"][kind]
            for kind, run in (("attn", attn), ("ff", ff))
        }
        f1 = UNPRUNED_F1 - sum(lost("l0", kind, removed) for kind, removed in gone.items())
        f1 -= 4.0 if v.get("choice") == "random" else 0.0
        share = (1 * gone["attn"] + 2 * gone["ff"]) / 300
        metrics = {
            "removed": gone,
            "kept": {kind: kept(kind, removed) for kind, removed in gone.items()},
            "encoder_parameters": round(10_000_000 * (1 - share)),
            "parameters": 10_000_000 + round(10_000_000 * (1 - share)),
            "size_mib": 76.0 * (1 - share / 2),
            "dev": dev(f1),
        }
        return self.run(Prune, metrics, model=model, attn=attn, ff=ff, **v)

    def retrain(self, model: str, objective: str, teacher: str, seed: int = 0) -> str:
        """One more epoch wins back 60% of what is lost, distillation 80%."""
        before = self.metrics(model)
        share = 0.6 if objective == "cross_entropy" else 0.8
        f1 = before["dev"]["f1"] + share * (UNPRUNED_F1 - before["dev"]["f1"])
        metrics = {key: before[key] for key in ("parameters", "encoder_parameters")}
        metrics |= {"training": training(50, 50.0), "dev": dev(f1)}
        taught = teacher if objective == "distillation" else None
        return self.run(
            Retrain, metrics, model=model, objective=objective, teacher=taught, seed=seed
        )

    def taught(self, model: str, teacher: str, f1: float = UNPRUNED_F1) -> str:
        """A smaller pretrained model that a larger one teaches from the start."""
        metrics = {"training": training(100, 50.0), "dev": dev(f1)}
        metrics |= {"parameters": 8_000_000, "encoder_parameters": 4_000_000}
        lesson = {"objective": "distillation", "teacher": teacher}
        return self.run(Retrain, metrics, model=model, **lesson)

    def time(self, models: list[str], **values: Any) -> str:
        """Decoding takes 10 seconds, of which 1 does not depend on the layers' sizes."""
        whole = self.metrics(models[0])["encoder_parameters"]
        metrics = {}
        for model in models:
            run = self.metrics(model)
            share = run["encoder_parameters"] / whole
            seconds = 1 + 9 * share
            ratios = [(10 + off) / (seconds + off) for off in (-0.1, 0, 0.1)]
            metrics[model] = {
                "seconds": seconds,
                "seconds_min": seconds - 0.1,
                "seconds_max": seconds + 0.1,
                "rounds": [seconds - 0.1, seconds, seconds + 0.1],
                "speedup": ratios[1],
                "speedup_low": min(ratios),
                "speedup_high": max(ratios),
                "macs_ratio": 1 / share,
                "parameters": run["parameters"],
                "size_mib": 76.0 * (1 + share) / 2,
                "windows": 25,
                "batch_size": values.get("batch_size", 1),
                "device": "a device",
                "threads": 1,
            }
        return self.run(DecodeTime, metrics, models=models, **values)

    def metrics(self, run: str) -> dict[str, Any]:
        """The metrics of a run that was added."""
        return next(record.metrics for record in self.records if record.id == run)

    def _curve(self, scorer: str, kind: str, seed: int, removed: list[float]) -> dict[str, Any]:
        points = [point(share, lost(scorer, kind, share, seed)) for share in removed]
        return {"kind": kind, "seed": seed, "points": points}


def point(removed: float, loss: float, *, own_threshold: bool = False) -> dict[str, Any]:
    """One point of a curve."""
    f1 = UNPRUNED_F1 - loss
    place = {"removed": removed, "own_threshold": own_threshold, "articles": articles(f1)}
    return {**place, "f1": f1, "f1_at_zero": f1 - 0.5, "has_answer_f1_answered": f1 + 2}


def kept(kind: str, removed: float) -> list[int]:
    """Slices kept in each layer: the middle layers keep more, the outer ones less."""
    size = N_HEADS if kind == "attn" else D_INTERMEDIATE
    tilt = np.array([-1, 0, 1, 1, 0, -1]) if removed else np.zeros(6)
    return [int(n) for n in np.round(size * (1 - removed / 100) + tilt).clip(0, size)]


def sweep(**settings: Any) -> Sweep:
    """The whole graph of a profile: all that figures, tables and claims need."""
    made = Sweep(**settings)
    base = made.finetune(made.base)
    large = base if made.large is None else made.finetune(made.large, f1=UNPRUNED_F1)
    for values in HEURISTICS.values():
        made.score(base, **values)
    candidates = {
        kind: [
            made.l0(base, kind, penalty, seed)
            for penalty in penalties
            for seed in range(made.gate_seeds)
        ]
        for kind, penalties in PENALTIES.items()
    }
    for embedding in ({}, {"embedding_norm": "plain"}):
        made.l0(base, "emb", 0.02, **embedding)
    for study in ({"learning_rate": 0.01}, {"learning_rate": 0.001}):
        made.l0(base, "attn", 0.04, shift=-15.0, **study)
    made.l0(base, "attn", 0.04, shift=-10.0, objective="distillation")
    point_of = select(made, base, candidates)
    timed = [large]
    for objective in ("cross_entropy", "distillation"):
        made.retrain(large, objective, large)
    for name, seed, choice, both in _prunings(made, large, point_of):
        timed += [name] if seed == 0 and choice == "scores" else []
        for objective in ("cross_entropy", "distillation") if both else ():
            made.retrain(name, objective, large)
    made.time(timed)
    return made


def select(made: Sweep, model: str, candidates: dict[str, list[str]]) -> dict[str, float]:
    """The largest λ that loses under 5 F1 points, averaged over seeds; the smallest if none."""
    chosen: dict[str, Any] = {}
    table, fallback = [], {}
    for kind, penalties in PENALTIES.items():
        losses = {}
        for penalty in penalties:
            gone = [removed_by(penalty, kind, seed) for seed in range(made.gate_seeds)]
            each = [lost("l0", kind, share, seed) for seed, share in enumerate(gone)]
            losses[penalty] = float(np.mean(each))
            row = {"kind": kind, "penalty": penalty, "removed": float(np.mean(gone))}
            row |= {"f1": UNPRUNED_F1 - losses[penalty], "loss": losses[penalty]}
            table.append({**row, "n_seeds": made.gate_seeds})
        small = [penalty for penalty, loss in losses.items() if loss < 5]
        chosen[kind], fallback[kind] = max(small, default=penalties[0]), not small
    parameters = {"data": made.data, "model": model, "max_loss": 5.0, "candidates": candidates}
    made.add("select", parameters, {**chosen, "table": table, "fallback": fallback})
    return chosen


def _prunings(
    made: Sweep, large: str, chosen: dict[str, float]
) -> Iterator[tuple[str, int, str, bool]]:
    """Both kinds at each multiple and seed; each kind alone, and the random choice, at the first.

    Yields the run's id, its gate seed, the choice, and whether both kinds are pruned.
    """
    for multiple in made.multiples:
        for seed in range(made.gate_seeds):
            gates = {
                kind: made.l0(large, kind, float(f"{penalty * multiple:.6g}"), seed)
                for kind, penalty in chosen.items()
            }
            yield made.prune(large, attn=gates["attn"], ff=gates["ff"]), seed, "scores", True
            if multiple == made.multiples[0]:
                for kind, name in gates.items():
                    yield made.prune(large, **{kind: name}), seed, "scores", False
                yield made.prune(large, **gates, choice="random"), seed, "random", True
