"""Predictions for Natural Questions, scored by the official evaluator; imports without torch."""

from __future__ import annotations

import importlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from qaprune_lib.cache import open_atomically
from qaprune_lib.data.natural_questions.example import (
    Annotation,
    Example,
    Page,
    Span,
    YesNo,
)
from qaprune_lib.errors import DataError, ModelError

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class NaturalQuestionsPrediction:
    """An answer with the scores that decide whether it counts; spans are document tokens.

    ``long`` None and an empty ``short`` beside ``yes_no`` "NONE" are null answers.
    """

    id: int
    long: Span | None
    long_score: float
    short: tuple[Span, ...] = ()
    yes_no: YesNo = "NONE"
    short_score: float = 0.0

    def official(self) -> dict[str, Any]:
        """As an entry of the official prediction file, without byte offsets."""
        return {
            "example_id": self.id,
            "long_answer": _official_span(self.long),
            "long_answer_score": self.long_score,
            "short_answers": [_official_span(span) for span in self.short],
            "short_answers_score": self.short_score,
            "yes_no_answer": self.yes_no,
        }


class AnswerScores(BaseModel):
    """What the official evaluator says of long or of short answers; shares in percent.

    f1, precision, recall: at ``threshold``, the score at which F1 is largest on this very data.
    f1_of_all: with every answer that is not null, whatever its score.
    recall_at_50, _75, _90: the largest recall at that precision or better, 0 if it is not reached.
    n_gold: examples that at least two annotators answered.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    f1: float
    precision: float
    recall: float
    threshold: float
    f1_of_all: float
    recall_at_50: float
    recall_at_75: float
    recall_at_90: float
    n_gold: int


class NaturalQuestionsResult(BaseModel):
    """Scores of long and of short answers over ``n_examples``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    long: AnswerScores
    short: AnswerScores
    n_examples: int


def score_natural_questions(
    examples: Iterable[Example], predictions: Iterable[NaturalQuestionsPrediction]
) -> NaturalQuestionsResult:
    """Score predictions with the official evaluator (PyPI ``natural-questions``), in one pass.

    Args:
        examples: with the annotations of several annotators: what fewer than two of them answered
            counts as unanswerable.
        predictions: one for each example, in the same order.

    Raises:
        DataError: no examples, annotations that cannot be scored, or predictions of other
            examples.
        ModelError: a score that is not finite, or the evaluator is not installed.
    """
    scorer = NaturalQuestionsScorer()
    for example, prediction in zip_longest(examples, predictions):
        if example is None or prediction is None:
            raise DataError("there must be one prediction for each example")
        scorer.add(example, prediction)
    return scorer.result()


class Outcome(NamedTuple):
    """What the evaluator says of one answer: is one due, given, and right; and its score."""

    due: bool
    given: bool
    right: bool
    score: float


class NaturalQuestionsScorer:
    """Scores predictions one by one; `long` and `short` keep the outcomes in order.

    Errors are those of `score_natural_questions`.
    """

    def __init__(self) -> None:
        self._evaluator, self._util = _evaluator("nq_eval"), _evaluator("eval_utils")
        self.long: list[Outcome] = []
        self.short: list[Outcome] = []
        self._most_annotations = 0

    def add(self, example: Example, prediction: NaturalQuestionsPrediction) -> None:
        """Score one prediction."""
        if example.id != prediction.id:
            raise DataError(
                f"the prediction for {prediction.id} stands where that for example {example.id} "
                f"is due: predictions must be in the order of the examples"
            )
        if not example.annotations:
            raise DataError(f"example {example.id} has no annotations to score against")
        if not (math.isfinite(prediction.long_score) and math.isfinite(prediction.short_score)):
            raise ModelError(f"example {example.id}: a score is not finite: {prediction}")
        if prediction.short and prediction.yes_no != "NONE":
            raise DataError(f"example {example.id}: both short answers and {prediction.yes_no}")
        self._most_annotations = max(self._most_annotations, len(example.annotations))
        gold = [self._label(example.id, annotation) for annotation in example.annotations]
        scores = prediction.long_score, prediction.short_score
        predicted = self._label(example.id, prediction, *scores)
        self.long.append(Outcome(*self._evaluator.score_long_answer(gold, predicted)))
        self.short.append(Outcome(*self._evaluator.score_short_answer(gold, predicted)))

    def _label(
        self,
        identity: int,
        answer: Annotation | NaturalQuestionsPrediction,
        long_score: float = 0.0,
        short_score: float = 0.0,
    ) -> Any:
        return self._util.NQLabel(
            example_id=identity,
            long_answer_span=self._util.Span(-1, -1, *(answer.long or (-1, -1))),
            short_answer_span_list=[self._util.Span(-1, -1, *span) for span in answer.short],
            yes_no_answer=answer.yes_no.lower(),
            long_score=long_score,
            short_score=short_score,
        )

    def result(self) -> NaturalQuestionsResult:
        """The scores of all that was added."""
        if not self.long:
            raise DataError("there are no examples to score")
        if self._most_annotations < 2:
            raise DataError(
                "the evaluator counts an answer that two annotators gave, and these examples have "
                "one annotation each: score a dev set, which has five"
            )
        sides = [  # sorted as the evaluator's score_answers
            sorted(side, key=lambda outcome: outcome.score, reverse=True)
            for side in (self.long, self.short)
        ]
        metrics = self._evaluator.get_metrics_with_answer_stats(*sides)
        long, short = (
            _scores(name, metrics, self._evaluator.compute_f1(side), side)
            for name, side in zip(("long", "short"), sides, strict=True)
        )
        return NaturalQuestionsResult(long=long, short=short, n_examples=len(self.long))


def write_predictions(path: Path, predictions: Iterable[NaturalQuestionsPrediction]) -> None:
    """Write the official prediction file, one entry after the other."""
    with open_atomically(path) as file:
        file.write('{"predictions": [')
        for number, prediction in enumerate(predictions):
            file.write(",\n" * bool(number) + json.dumps(prediction.official(), allow_nan=False))
        file.write("]}\n")


def word_overlap(example: Example) -> NaturalQuestionsPrediction:
    """The top-level candidate that has the largest share of the question's words, the first such.

    A baseline without a model: it tells how much of a long-answer score mere words explain.
    """
    words = _words(example.question)
    best: Span | None = None
    best_share = -1.0
    for span, words_there in _words_of_page(example.page):
        share = len(words & words_there) / max(1, len(words))
        if share > best_share:
            best, best_share = span, share
    return NaturalQuestionsPrediction(example.id, best, best_share)


@lru_cache(maxsize=1)  # questions on the same page often follow each other
def _words_of_page(page: Page) -> list[tuple[Span, frozenset[str]]]:
    return [(span, _words(" ".join(words))) for span, words in page.passages()]


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def _scores(
    name: str, metrics: dict[str, float], of_all: dict[str, float], side: list[Outcome]
) -> AnswerScores:
    best, at = f"{name}-best-threshold", f"{name}-recall-at-precision>="
    return AnswerScores(
        **{x: 100 * metrics[f"{best}-{x}"] for x in ("f1", "precision", "recall")},
        threshold=metrics[best],
        f1_of_all=100 * of_all["f1"],
        recall_at_50=100 * metrics[f"{at}0.5"],
        recall_at_75=100 * metrics[f"{at}0.75"],
        recall_at_90=100 * metrics[f"{at}0.9"],
        n_gold=sum(bool(outcome.due) for outcome in side),
    )


def _official_span(span: Span | None) -> dict[str, int]:
    start, end = span or (-1, -1)
    return {"start_token": start, "end_token": end, "start_byte": -1, "end_byte": -1}


def _evaluator(module: str) -> ModuleType:
    try:
        loaded = importlib.import_module(f"natural_questions.{module}")
        flags = importlib.import_module("absl.flags").FLAGS
    except ImportError as error:
        raise ModelError(
            f"the official evaluator is not installed here ({error}): pip install 'qaprune[nq]'"
        ) from error
    if not flags.is_parsed():
        flags.mark_as_parsed()  # else its thresholds of two annotators cannot be read
    return loaded
