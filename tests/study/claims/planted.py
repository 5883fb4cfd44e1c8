"""Records with planted effects: each number of interest is given, and so is its noise."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from study.claims import CLAIMS, Judgement, gather_evidence, judge
from study.frames import SCORERS
from study.plan.parameters import (
    DecodeTime,
    Finetune,
    Prune,
    Retrain,
    ScoreGates,
)
from tests.study.synthetic import Sweep

WHOLE = 80.0
SHAPE = {"n_layers": 6, "n_heads": 12, "head_size": 4, "d_intermediate": 48, "d_embedding": 48}
QUIET, LOUD = 0.2, 12.0
"""Standard deviations of an article's F1 about the model's: a clear and a hidden effect."""


@dataclass
class Planted(Sweep):
    """A sweep whose runs are given their results.

    `wobble` is the noise of each article's F1, `floor` the percentage of unanswerable questions.
    """

    wobble: float = QUIET
    floor: float = 0.0

    def __post_init__(self) -> None:
        self.counter = count()

    def articles(self, f1: float) -> list[list[float]]:
        """12 articles of 20 questions with independent noise, whose mean is exactly `f1`."""
        noise = np.random.default_rng(next(self.counter)).normal(0, self.wobble, 12)
        return [[20, 20 * (f1 + float(off))] for off in noise - noise.mean()]

    def dev(self, f1: float) -> dict[str, Any]:
        """Scores on dev questions."""
        fitted = {"f1": f1, "total": 240, "NoAns_total": round(2.4 * self.floor)}
        return {"f1": f1, "fitted": fitted, "articles": self.articles(f1)}

    def tuned(self, f1: float = WHOLE, model: str = "minilm", **values: Any) -> str:
        """Fine-tune."""
        metrics = {"dev": self.dev(f1), "parameters": 20_000_000, "shape": SHAPE}
        metrics |= {"heldout": {"fitted": metrics["dev"]["fitted"]}}
        metrics |= {"encoder_parameters": values.pop("encoder", 10_000_000)}
        metrics |= {"training": {"seconds": 100.0, "seconds_per_step": 1.0, "steps": 100}}
        return self.run(Finetune, metrics, model=model, batch_size=16, **values)

    def scored(
        self, model: str, scorer: str, kind: str, losses: dict[float, float], **values: Any
    ) -> str:
        """F1 lost at each percentage removed."""
        points = [self.point(removed, loss) for removed, loss in losses.items()]
        curve = {"kind": kind, "seed": 0, "points": points}
        metrics = {
            "label": SCORERS[scorer],
            "unpruned": self.point(0, 0),
            "curves": [curve],
            "scoring": {"seconds": 72.0},
        }
        asked = {"model": model, "scorer": scorer, "kinds": [kind], "penalty_attn": None}
        return self.run(ScoreGates, metrics, **{**asked, **values})

    def gates(
        self, model: str, kind: str, penalty: float, removed: float, loss: float, **values: Any
    ) -> str:
        """Gates trained by L0, at their own threshold."""
        seed = values.get("seed", 0)
        curve = {"kind": kind, "seed": seed, "points": [self.point(removed, loss, own=True)]}
        epoch = values.pop("epoch", 0.8)
        questions = values.pop("trained_on", 300)
        metrics = {
            "unpruned": self.point(0, 0),
            "curves": [curve],
            "label": SCORERS["l0"],
            "scoring": {"seconds": 80.0, "questions": questions},
            "training": {
                "seconds": values.pop("seconds", 80.0),
                "seconds_per_step": epoch,
                "steps": values.pop("steps", 100),
            },
        }
        asked = {"model": model, "scorer": "l0", "kinds": [kind], "penalty_attn": None}
        asked |= {f"penalty_{kind}": penalty, "batch_size": 16}
        return self.run(ScoreGates, metrics, **{**asked, **values})

    def selected(self, model: str, attn: float = 0.1, ff: float = 0.001) -> str:
        """The operating point."""
        parameters = {"data": self.data, "model": model, "max_loss": 5.0, "candidates": {}}
        metrics = {"attn": attn, "ff": ff, "table": [], "fallback": {}}
        return self.add("select", parameters, metrics)

    def pruned(self, model: str, f1: float, **values: Any) -> str:
        """A pruned model, with the gates of score runs."""
        metrics = {
            "removed": values.pop("removed", {"attn": 40.0, "ff": 40.0}),
            "kept": values.pop("kept", {"attn": [7] * 6, "ff": [29] * 6}),
            "encoder_parameters": (encoder := values.pop("encoder", 6_000_000)),
            "parameters": 10_000_000 + encoder,
            "dev": self.dev(f1),
        }
        return self.run(Prune, metrics, model=model, **values)

    def retrained(self, model: str, f1: float, teacher: str | None = None, **values: Any) -> str:
        """One more epoch, distilled if there is a teacher."""
        metrics = {key: self.metrics(model)[key] for key in ("parameters", "encoder_parameters")}
        metrics |= {"training": {"steps": values.pop("steps", 100)}}
        objective = "distillation" if teacher else "cross_entropy"
        asked = {"model": model, "objective": objective, "teacher": teacher, **values}
        return self.run(Retrain, {**metrics, "dev": self.dev(f1)}, **asked)

    def timed(self, seconds: dict[str, list[float]]) -> str:
        """Seconds of each round, by model, the unpruned one first."""
        first = np.array(next(iter(seconds.values())))
        metrics = {}
        for model, rounds in seconds.items():
            ratios = first / np.array(rounds)
            metrics[model] = {
                "seconds": float(np.median(rounds)),
                "rounds": rounds,
                "speedup": float(np.median(ratios)),
                "speedup_low": float(ratios.min()),
                "speedup_high": float(ratios.max()),
                "macs_ratio": 2.0,
                "size_mib": 50.0,
                "parameters": self.metrics(model)["parameters"],
                "windows": 25,
                "batch_size": 1,
                "device": "a device",
                "threads": 1,
            }
        return self.run(DecodeTime, metrics, models=list(seconds))

    def point(self, removed: float, loss: float, *, own: bool = False) -> dict[str, Any]:
        """A point of a curve."""
        f1 = WHOLE - loss
        place = {"removed": removed, "own_threshold": own, "articles": self.articles(f1)}
        return {**place, "f1": f1, "f1_at_zero": f1, "has_answer_f1_answered": f1}

    def judge(self, number: int) -> Judgement:
        """One claim on these records."""
        return judge(CLAIMS[number], gather_evidence(self.records))


def both_kinds(made: Planted, model: str, multiple: float = 1.0, **values: Any) -> dict[str, str]:
    """Gates of both kinds at a multiple of the operating point, as `pruned` takes them."""
    return {
        "attn": made.gates(model, "attn", 0.1 * multiple, 40.0, 2.0, **values),
        "ff": made.gates(model, "ff", 0.001 * multiple, 40.0, 2.0, **values),
    }


def line(slope: float, *places: float) -> dict[float, float]:
    """Losses that grow by `slope` for each 10% removed."""
    return {place: slope * place / 10 for place in places or (10.0, 20.0, 40.0, 60.0, 80.0)}
