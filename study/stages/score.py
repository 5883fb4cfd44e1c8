"""The rankings of one scorer: computed, or taken up where a killed run left them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from qaprune_lib.cache import file_digest, write_atomically
from qaprune_lib.data.natural_questions.stream import NaturalQuestions
from qaprune_lib.errors import SettingsError
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.scorers import SCORERS, GateScores
from study.plan.parameters import OF_L0, PENALTIES, ScoreGates, unknown_name
from study.records.record import FINISHED
from study.stages.questions import draw, size
from study.stages.stage_run import StageRun

SCORES, SCORING = "scores.json", "scoring.json"


@dataclass(frozen=True)
class Ranked:
    """What a scorer gave, its label with options in words, and how the scoring went."""

    rankings: list[GateScores]
    label: str
    scoring: dict[str, Any]


def rank(run: StageRun[ScoreGates], model: QuestionAnsweringModel) -> Ranked:
    """Score gates as the run's parameters say, or take what a killed run has saved."""
    settings = run.parameters
    if settings.scorer not in SCORERS:
        raise SettingsError(unknown_name(settings.scorer, SCORERS, "qaprune_lib.scorers"))
    words = [name if v is True else f"{name} {v}" for name, v in settings.options.items()]
    label = " ".join([SCORERS[settings.scorer].label, *words])  # "gain at 0", "gain normalize"
    path, done = run.folder / SCORES, run.folder / SCORING
    if not (run.folder / FINISHED).exists() and (scoring := _kept(path, done)) is not None:
        return Ranked([GateScores.load(path)], label, scoring)
    clock = time.perf_counter()
    pool = _pool(run)
    rankings = _rankings(run, model, pool)
    scoring = {
        "seconds": time.perf_counter() - clock,
        "questions": 0 if pool is None else size(pool),
        "device": run.made["device"],
        "commit": run.made["commit"],
    }
    rankings[0].save(path)
    if len(rankings) == 1:
        write_atomically(done, json.dumps([scoring, file_digest(path)]))
    return Ranked(rankings, label, scoring)


def _kept(path: Path, done: Path) -> dict[str, Any] | None:
    """How the scores that were kept were made; None if there are none, or they are damaged."""
    try:
        scoring, digest = json.loads(done.read_text(encoding="utf-8"))
        return scoring if digest == file_digest(path) else None
    except (OSError, ValueError, TypeError):
        return None


def _pool(run: StageRun[ScoreGates]) -> Dataset | NaturalQuestions | None:
    """The questions that score: those that scorers of this kind take, drawn."""
    wanted = SCORERS[run.parameters.scorer].questions
    if wanted is None:
        return None
    pool = run.questions.dev if wanted == "dev" else run.questions.train
    return draw(pool, run.parameters.questions, seed=2)


def _rankings(
    run: StageRun[ScoreGates], model: QuestionAnsweringModel, pool: Any
) -> list[GateScores]:
    settings, entry = run.parameters, SCORERS[run.parameters.scorer]
    given: dict[str, Any] = dict(settings.options)
    if settings.scorer == "l0":
        given = settings.model_dump(include={"seed", *OF_L0} - {"objective", *PENALTIES})
        given["penalty"] = {k: λ for k, λ in settings.penalties().items() if λ is not None}
        given["teacher"] = model if settings.objective == "distillation" else None
        given["folder"] = run.checkpoints
    elif entry.kinds != ("attn",):
        given["kinds"] = settings.kinds
    try:
        if pool is None:
            seeds = range(settings.seed, settings.seed + settings.random_seeds)
            return [entry.function(model, seed=seed, **given) for seed in seeds]
        return [entry.function(model, pool, windows=run.windows, **given)]
    except TypeError as error:
        if "unexpected keyword argument" in str(error):
            raise SettingsError(f"options of {settings.scorer}: {error}") from error
        raise
