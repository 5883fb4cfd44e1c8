"""What the stages measure on Natural Questions, in the form that records keep."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qaprune_lib.data.natural_questions.stream import NaturalQuestions
from qaprune_lib.data.windows import Windows
from qaprune_lib.evaluation.natural_questions import (
    NaturalQuestionsPrediction,
    NaturalQuestionsScorer,
    word_overlap,
    write_predictions,
)
from qaprune_lib.evaluation.predict import predict_natural_questions
from qaprune_lib.models.pruned import QuestionAnsweringModel


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
        write_predictions(file, predictions)
    return score(examples, iter(predictions))


def word_overlap_scores(examples: NaturalQuestions) -> dict[str, Any]:
    """Scores of the paragraph that shares most words with the question: no model at all."""
    return score(examples, map(word_overlap, examples))


def score(
    examples: NaturalQuestions, predictions: Iterator[NaturalQuestionsPrediction]
) -> dict[str, Any]:
    """Official scores as plain numbers; `articles` are those of short answers, by document.

    An article is [answers given and answers due, 200 × right answers, questions], so that the sum
    of the second over the sum of the first is F1 in percent, over any choice of documents.
    Those without answers are there too, so that all models have the same articles.
    """
    scorer = NaturalQuestionsScorer()
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
