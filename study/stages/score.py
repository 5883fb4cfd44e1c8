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
from study.plan.parameters import ScoreGates, unknown_name
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
    label = " ".join([SCORERS[settings.scorer].label, *_words(settings.options)])
    if settings.scorer == "l0":
        label = SCORERS["l0"].label
    path, done = run.folder / SCORES, run.folder / SCORING
    if not (run.folder / FINISHED).exists() and (scoring := _kept(path, done)) is not None:
        return Ranked([GateScores.load(path)], label, scoring)
    clock = time.perf_counter()
    rankings = list(_rankings(run, model))
    pool = _pool(run)
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


def _rankings(run: StageRun[ScoreGates], model: QuestionAnsweringModel) -> list[GateScores]:
    settings = run.parameters
    entry, pool = SCORERS[settings.scorer], _pool(run)
    if settings.scorer == "l0":
        return [_l0(run, model, pool)]
    given: dict[str, Any] = dict(settings.options)
    if entry.kinds != ("attn",):
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


def _l0(run: StageRun[ScoreGates], model: QuestionAnsweringModel, questions: Any) -> GateScores:
    settings = run.parameters
    return SCORERS["l0"].function(
        model,
        questions,
        penalty={kind: λ for kind, λ in settings.penalties().items() if λ is not None},
        teacher=model if settings.objective == "distillation" else None,
        penalty_on=settings.penalty_on,
        optimizer=settings.optimizer,
        embedding_norm=settings.embedding_norm,
        initial_mean=settings.initial_mean,
        epochs=settings.epochs,
        max_steps=settings.max_steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        dropout=settings.dropout,
        seed=settings.seed,
        folder=run.checkpoints,
        windows=run.windows,
    )


def _words(options: dict[str, Any]) -> list[str]:
    """Options in words: "at 0", "normalize"."""
    return [name if value is True else f"{name} {value}" for name, value in options.items()]
