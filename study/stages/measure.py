"""What the stages measure, in the form that records keep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from datasets import Dataset

from qaprune_lib.cache import write_atomically
from qaprune_lib.data.natural_questions.stream import NaturalQuestions
from qaprune_lib.data.windows import Windows
from qaprune_lib.evaluation import natural_questions as official
from qaprune_lib.evaluation.predict import predict, predict_natural_questions
from qaprune_lib.evaluation.squad import (
    Prediction,
    fit_threshold,
    per_question_f1,
    score_predictions,
)
from qaprune_lib.models.load import parameter_count
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.models.topology import Topology
from qaprune_lib.pruning.slicing import prune
from qaprune_lib.scorers.scores import GateScores
from qaprune_lib.training.trainer import TrainingReport
from study.stages.questions import Questions

LOSS_POINTS = 50


def dev_scores(
    model: QuestionAnsweringModel, questions: Questions, folder: Path, windows: Windows
) -> dict[str, Any]:
    """Scores on dev and sizes; on SQuAD also on held-out questions, whose threshold serves both."""
    sizes = {
        "parameters": parameter_count(model),
        "encoder_parameters": Topology.of(model).encoder_parameters(),
    }
    if isinstance(questions.dev, NaturalQuestions):
        found = {}
        for name, examples in {"dev": questions.dev, **questions.other_dev}.items():
            file = folder / f"{name}_predictions.json"
            found[name] = natural_questions_scores(model, examples, file, windows)
        dev = {"dev": found.pop("dev")}
        return {**dev, **({"other_dev": found} if found else {}), **sizes}
    heldout = cast(Dataset, questions.heldout)
    on_heldout = predict(model, heldout, windows=windows)
    threshold = fit_threshold(heldout, on_heldout)
    on_dev = predict(model, questions.dev, windows=windows)
    write_predictions(folder / "dev_predictions.jsonl", on_dev)
    return {
        "heldout": scores(heldout, on_heldout, threshold),
        "dev": scores(questions.dev, on_dev, threshold),
        **sizes,
    }


def baselines(questions: Questions) -> dict[str, Any]:
    """Of Natural Questions: what mere word overlap scores on each dev set; else nothing."""
    if not isinstance(questions.dev, NaturalQuestions):
        return {}
    sets = {"dev": questions.dev, **questions.other_dev}
    return {"word_overlap": {name: word_overlap_scores(split) for name, split in sets.items()}}


def scores(dataset: Dataset, predictions: Sequence[Prediction], threshold: float) -> dict[str, Any]:
    """Official scores as plain numbers, the headline F1 first, with F1 by article."""
    result = score_predictions(dataset, predictions, threshold=threshold)
    articles = by_article(dataset, per_question_f1(dataset, predictions, threshold))
    return {"f1": result.f1, **result.model_dump(), "articles": articles}


def by_article(dataset: Dataset, f1: np.ndarray) -> list[list[float]]:
    """Number of questions and sum of their F1 (0 to 100 each), for each article in order."""
    _, first, article = np.unique(dataset["title"], return_index=True, return_inverse=True)
    counts = np.bincount(article)
    sums = np.bincount(article, weights=f1)
    return [[int(counts[i]), round(float(sums[i]), 4)] for i in np.argsort(first)]


def curve(
    model: QuestionAnsweringModel,
    gate_scores: GateScores,
    kind: str,
    questions: Dataset | NaturalQuestions,
    fractions: Sequence[float],
    windows: Windows,
) -> list[dict[str, Any]]:
    """F1 against the share of one kind removed (Figures 1 and 2); L0 at its own threshold too."""
    one_kind = gate_scores.only(kind)
    cuts = [(Topology.from_scores(one_kind, fraction=share), False) for share in fractions]
    if not one_kind.additive:
        cuts.append((Topology.from_scores(one_kind, threshold=0.0), True))
    points = []
    for topology, own in cuts:
        point = curve_point(prune(model, topology), questions, windows)
        points.append({"removed": topology.removed(kind), "own_threshold": own, **point})
    return points


def curve_point(
    model: QuestionAnsweringModel, questions: Dataset | NaturalQuestions, windows: Windows
) -> dict[str, Any]:
    """The best F1 that a threshold can reach on these questions, and F1 without one."""
    if isinstance(questions, NaturalQuestions):
        return natural_questions_point(natural_questions_scores(model, questions, None, windows))
    predictions = predict(model, questions, windows=windows, progress=False)
    result = score_predictions(questions, predictions)
    f1 = per_question_f1(questions, predictions, result.attainable_f1_threshold)
    return {
        "f1": result.attainable_f1,
        "f1_at_zero": result.at_zero.f1,
        "has_answer_f1_answered": result.answered.HasAns_f1,
        "articles": by_article(questions, f1),
    }


def training_metrics(report: TrainingReport) -> dict[str, Any]:
    """Steps, seconds, the loss as at most 50 means of successive steps, and its last tenth."""
    losses = np.asarray(report.losses, dtype=float)
    parts = np.array_split(np.arange(len(losses)), min(LOSS_POINTS, len(losses)))
    return {
        "steps": report.steps,
        "seconds": report.seconds,
        "seconds_per_step": report.seconds_per_step,
        "final_loss": float(losses[-max(1, len(losses) // 10) :].mean()),
        "losses": [[int(part[-1]) + 1, float(losses[part].mean())] for part in parts],
    }


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """One JSON line per question."""
    lines = [json.dumps(asdict(prediction), ensure_ascii=False) for prediction in predictions]
    write_atomically(path, "\n".join(lines) + "\n")


def natural_questions_scores(
    model: QuestionAnsweringModel, examples: NaturalQuestions, file: Path | None, windows: Windows
) -> dict[str, Any]:
    """The official scores of a model's answers, the F1 of short answers first.

    That F1 is at the threshold where it is largest on these very questions, as the official
    evaluator gives it. The answers are written to `file`.
    """
    predictions = list(
        predict_natural_questions(model, examples, windows=windows, progress=file is not None)
    )
    if file is not None:
        official.write_predictions(file, predictions)
    return score(examples, iter(predictions))


def word_overlap_scores(examples: NaturalQuestions) -> dict[str, Any]:
    """Scores of the paragraph that shares most words with the question: no model at all."""
    return score(examples, map(official.word_overlap, examples))


def score(
    examples: NaturalQuestions, predictions: Iterator[official.NaturalQuestionsPrediction]
) -> dict[str, Any]:
    """Official scores as plain numbers; `articles` are those of short answers, by document.

    An article is [answers given and answers due, 200 × right answers, questions], so that the sum
    of the second over the sum of the first is F1 in percent, over any choice of documents.
    Those without answers are there too, so that all models have the same articles.
    """
    scorer = official.NaturalQuestionsScorer()
    documents: list[str] = []
    for example, prediction in zip(examples, predictions, strict=True):
        scorer.add(example, prediction)
        documents.append(hashlib.sha256(example.text.encode()).hexdigest())
    result = scorer.result()
    sums: dict[str, list[float]] = {}
    for document, outcome in zip(documents, scorer.short, strict=True):
        given = outcome.given and outcome.score >= result.short.threshold
        article = sums.setdefault(document, [0, 0.0, 0])
        article[0] += outcome.due + given
        article[1] += 200 * (outcome.right and given)
        article[2] += 1
    return {"f1": result.short.f1, **result.model_dump(), "articles": list(sums.values())}


def natural_questions_point(scores: Mapping[str, Any]) -> dict[str, Any]:
    """A point of a sparsity curve."""
    return {
        "f1": scores["f1"],
        "f1_at_zero": scores["short"]["f1_of_all"],
        "long_f1": scores["long"]["f1"],
        "questions": scores["n_examples"],
        "articles": scores["articles"],
    }
