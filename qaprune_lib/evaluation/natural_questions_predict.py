"""From a model and Natural Questions to answers and their scores, example by example."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qaprune_lib.errors import ModelError
from qaprune_lib.evaluation.logits import stream_logits, tokenizer_of
from qaprune_lib.evaluation.natural_questions import (
    NaturalQuestionsPrediction,
    NaturalQuestionsResult,
    score_natural_questions,
)
from qaprune_lib.evaluation.natural_questions_decode import WindowLogits, decode_natural_questions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from qaprune_lib.data.natural_questions import NaturalQuestions


def predict_natural_questions(
    model: PreTrainedModel,
    examples: NaturalQuestions,
    *,
    max_length: int = 512,
    doc_stride: int = 128,
    max_question_length: int = 64,
    max_answer_length: int = 30,
    max_tokens: int | None = None,
    progress: bool = True,
    cache_dir: Path | None = None,
) -> Iterator[NaturalQuestionsPrediction]:
    """One answer for each example, in order, as they come.

    `make_natural_questions_features`, `stream_logits` and `decode_natural_questions`: the windows
    lie on disk, and memory holds some hundreds of documents and some thousands of windows' logits.

    Args:
        model: with the head for Natural Questions.
        examples: one split of `load_natural_questions`; annotations are not looked at.
        max_length: tokens of a window.
        doc_stride: tokens from one window to the next.
        max_question_length: tokens of the question that are kept.
        max_answer_length: longest short answer, in tokens.
        max_tokens: of a batch, padding included; as `stream_logits`.
        progress: show a bar.
        cache_dir: as for the features.

    Raises:
        ModelError: a model with another head or without tokenizer. DataError: bad data.
    """
    from qaprune_lib.data.natural_questions_features import make_natural_questions_features
    from qaprune_lib.models.heads import head_of

    if head_of(model).task != "natural_questions":
        raise ModelError(
            "the model has no answer-type layer: load it with "
            'load_model(..., task="natural_questions") and train it on Natural Questions'
        )
    features = make_natural_questions_features(
        examples,
        tokenizer_of(model),
        max_length=max_length,
        doc_stride=doc_stride,
        max_question_length=max_question_length,
        cache_dir=cache_dir,
    )
    logits = stream_logits(model, features, max_tokens=max_tokens, progress=progress)
    return decode_natural_questions(
        examples,
        features,
        (WindowLogits(*row) for row in logits),
        max_answer_length=max_answer_length,
    )


def evaluate_natural_questions(
    model: PreTrainedModel, examples: NaturalQuestions, **settings: Any
) -> NaturalQuestionsResult:
    """Score a model's answers with the official evaluator, in one pass over the windows.

    Args:
        model: with the head for Natural Questions.
        examples: with the annotations of several annotators.
        settings: as for `predict_natural_questions`.

    Raises:
        ModelError, DataError: as `predict_natural_questions` and `score_natural_questions`.
    """
    return score_natural_questions(examples, predict_natural_questions(model, examples, **settings))
