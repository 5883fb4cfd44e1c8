"""SQuAD 1.1 and 2.0 metrics, as the official evaluation script of SQuAD 2.0 computes them.

Rajpurkar, Jia, Liang (2018), *Know What You Don't Know*, `evaluate-v2.0.py`. This module needs
neither torch nor a model: predictions are scored wherever numpy and pydantic are.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from qaprune_lib.data.sources import no_questions
from qaprune_lib.data.unicode_forms import form_hint
from qaprune_lib.errors import DataError, ModelError, SettingsError
from qaprune_lib.evaluation.n_best import RankedSpan

if TYPE_CHECKING:
    from datasets import Dataset


_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True)
class Prediction:
    """The best span for a question, and the score of "no answer" to compare it with.

    start, end: character offsets; ``text == context[start:end]``.
    score: start logit + end logit of the span.
    null_score: the least start[0] + end[0] over the question's windows.
    n_best: the best answers in order, this one first, where they are asked for.
    """

    id: str
    text: str
    start: int
    end: int
    score: float
    null_score: float
    n_best: tuple[RankedSpan, ...] = ()


class Scores(BaseModel):
    """Exact match and F1 in percent, over all questions and apart for those with and without
    an answer. The fields have the names of the official script; a part without questions is None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    exact: float
    f1: float
    total: int
    HasAns_exact: float | None
    HasAns_f1: float | None
    HasAns_total: int
    NoAns_exact: float | None
    NoAns_f1: float | None
    NoAns_total: int


class SquadResult(BaseModel):
    """One set of predictions, scored at every threshold of interest.

    "No answer" is predicted where ``null_score - score > threshold``; in a data set whose
    questions all have answers (SQuAD 1.1) it never is.

    Attributes:
        at_zero: scores at threshold 0.
        fitted, threshold: scores at a threshold chosen on other data; None when none was given.
        best_*: as the official script's ``find_best_thresh`` computes them. It walks question by
            question, so among questions of equal ``null_score - score`` it may stop half-way, at a
            value that no threshold attains.
        attainable_f1: the best F1 that a threshold really gives.
        answered: scores with every question answered, whatever its null score.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    at_zero: Scores
    fitted: Scores | None
    threshold: float | None
    best_exact: float
    best_exact_threshold: float
    best_f1: float
    best_f1_threshold: float
    attainable_f1: float
    attainable_f1_threshold: float
    answered: Scores

    @property
    def f1(self) -> float:
        """F1 in percent at the fitted threshold, or at 0 where none was fitted."""
        return (self.fitted or self.at_zero).f1


def normalize_answer(text: str) -> str:
    """Lower case, no ASCII punctuation, no English articles, single spaces.

    >>> normalize_answer("The  Tower, of London!")
    'tower of london'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def score_predictions(
    dataset: Dataset, predictions: Sequence[Prediction], *, threshold: float | None = None
) -> SquadResult:
    """Score one prediction for each question of `dataset`, in any order.

    `threshold` is one chosen on other data, for example by `fit_threshold`. Raises DataError where
    predictions and questions do not match one to one, ModelError where a score is not finite.
    """
    raw = _raw_scores(dataset, predictions)
    best_exact, best_exact_threshold = _official_best(raw, raw.exact)
    best_f1, best_f1_threshold = _official_best(raw, raw.f1)
    attainable_threshold = _attainable_threshold(raw)
    return SquadResult(
        at_zero=_summary(raw, 0.0),
        fitted=None if threshold is None else _summary(raw, threshold),
        threshold=threshold,
        best_exact=best_exact,
        best_exact_threshold=best_exact_threshold,
        best_f1=best_f1,
        best_f1_threshold=best_f1_threshold,
        attainable_f1=_summary(raw, attainable_threshold).f1,
        attainable_f1_threshold=attainable_threshold,
        answered=_summary(raw, None),
    )


def fit_threshold(dataset: Dataset, predictions: Sequence[Prediction]) -> float:
    """The threshold of ``null_score - score`` with the best F1 on `dataset`.

    Lies midway between two neighbouring values that occur, or 1 beyond the outermost one; the
    lowest of several equally good ones. Where every question has an answer it is 1 above all
    values. Raises as `score_predictions`.
    """
    return _attainable_threshold(_raw_scores(dataset, predictions))


def per_question_f1(
    dataset: Dataset, predictions: Sequence[Prediction], threshold: float | None
) -> np.ndarray:
    """F1 of each question in percent, float64 [len(dataset)], in the order of `dataset`.

    `threshold` None answers every question. The mean is the F1 of `Scores` at that threshold.
    Raises as `score_predictions`.
    """
    raw = _raw_scores(dataset, predictions)
    return 100.0 * _with_nulls(raw, raw.f1, threshold)


@dataclass(frozen=True)
class _RawScores:
    """Every question answered. Arrays [questions]: scores in 0..1, na = null_score - score."""

    exact: np.ndarray
    f1: np.ndarray
    na: np.ndarray
    has_answer: np.ndarray
    has_text: np.ndarray


def _raw_scores(dataset: Dataset, predictions: Sequence[Prediction]) -> _RawScores:
    try:
        ids: list[str] = list(dataset["id"])
    except (TypeError, KeyError, AttributeError) as error:
        raise no_questions(dataset) from error
    by_id = _match(ids, predictions)
    columns = getattr(dataset, "column_names", dataset)
    answers = dataset["answers"] if "answers" in columns else [None] * len(ids)
    unlabelled = [name for name, found in zip(ids, answers, strict=True) if not found]
    if unlabelled:
        raise DataError(
            f"{len(unlabelled)} questions have no answers to score against, the first "
            f"{unlabelled[0]!r}: use predict"
        )
    golds: list[list[str]] = [found["text"] for found in answers if found]
    matched = [by_id[question_id] for question_id in ids]
    scores = np.array(
        [_question_scores(g, p.text) for g, p in zip(golds, matched, strict=True)], dtype=np.float64
    )
    return _RawScores(
        exact=scores[:, 0],
        f1=scores[:, 1],
        na=np.array([p.null_score - p.score for p in matched], dtype=np.float64),
        # Counted before golds of punctuation alone are dropped, as the official script does.
        has_answer=np.array([bool(g) for g in golds]),
        has_text=np.array([bool(p.text) for p in matched]),
    )


def _match(ids: list[str], predictions: Sequence[Prediction]) -> dict[str, Prediction]:
    if not ids:
        raise DataError("there are no questions to score: the data set is empty")
    by_id: dict[str, Prediction] = {}
    for prediction in predictions:
        if prediction.id in by_id:
            raise DataError(f"two predictions for question {prediction.id!r}")
        if not math.isfinite(prediction.null_score - prediction.score):
            raise ModelError(
                f"question {prediction.id!r} has score {prediction.score} and null score "
                f"{prediction.null_score}: both must be finite"
            )
        by_id[prediction.id] = prediction
    known = set(ids)
    if len(known) < len(ids):
        twice = next(question_id for question_id, n in Counter(ids).items() if n > 1)
        raise DataError(f"question id {twice!r} occurs more than once in the data set")
    missing = [question_id for question_id in ids if question_id not in by_id]
    if missing:
        hints = (form_hint(missing[0], other) for other in by_id)
        raise DataError(
            f"no prediction for question {missing[0]!r} ({len(missing)} missing)"
            + next(filter(None, hints), "")
        )
    extra = [question_id for question_id in by_id if question_id not in known]
    if extra:
        raise DataError(
            f"prediction for {extra[0]!r}, which is no question of the data set ({len(extra)} such)"
        )
    return by_id


def _question_scores(golds: list[str], predicted: str) -> tuple[float, float]:
    """Exact match and F1 against the best gold; the gold of an unanswerable question is ""."""
    normalized = [gold for gold in map(normalize_answer, golds) if gold] or [""]
    answer = normalize_answer(predicted)
    tokens = answer.split()
    return float(answer in normalized), max(_token_f1(gold.split(), tokens) for gold in normalized)


def _token_f1(gold: list[str], predicted: list[str]) -> float:
    if not gold or not predicted:
        return float(gold == predicted)
    same = (Counter(gold) & Counter(predicted)).total()
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(gold)
    return (2 * precision * recall) / (precision + recall)


def _with_nulls(raw: _RawScores, scores: np.ndarray, threshold: float | None) -> np.ndarray:
    if threshold is not None and not math.isfinite(threshold):
        raise SettingsError(f"the no-answer threshold must be a finite number, not {threshold}")
    if threshold is None or raw.has_answer.all():
        return scores
    return np.where(raw.na > threshold, ~raw.has_answer, scores)


def _summary(raw: _RawScores, threshold: float | None) -> Scores:
    exact, f1 = (_with_nulls(raw, scores, threshold) for scores in (raw.exact, raw.f1))

    def percent(scores: np.ndarray, part: np.ndarray) -> float | None:
        return 100.0 * float(scores[part].mean()) if part.any() else None

    has, no = raw.has_answer, ~raw.has_answer
    return Scores(
        exact=100.0 * float(exact.mean()),
        f1=100.0 * float(f1.mean()),
        total=len(f1),
        HasAns_exact=percent(exact, has),
        HasAns_f1=percent(f1, has),
        HasAns_total=int(has.sum()),
        NoAns_exact=percent(exact, no),
        NoAns_f1=percent(f1, no),
        NoAns_total=int(no.sum()),
    )


def _official_best(raw: _RawScores, scores: np.ndarray) -> tuple[float, float]:
    """The official script's walk: all null at first, then one more question answered a step.

    Any text for an unanswerable question costs 1 here, even text that normalises to nothing.
    """
    order = np.argsort(raw.na, kind="stable")
    change = np.where(raw.has_answer, scores, -raw.has_text.astype(np.float64))[order]
    totals = np.cumsum(np.concatenate([[np.count_nonzero(~raw.has_answer)], change]))
    best = int(np.argmax(totals))
    threshold = float(raw.na[order[best - 1]]) if best else 0.0
    return 100.0 * float(totals[best]) / len(scores), threshold


def _attainable_threshold(raw: _RawScores) -> float:
    values, group = np.unique(raw.na, return_inverse=True)
    if raw.has_answer.all():
        return float(values[-1] + 1)
    gained = np.bincount(group, weights=raw.f1 - ~raw.has_answer)
    answered_up_to = int(np.argmax(np.cumsum(np.concatenate([[0.0], gained]))))
    if answered_up_to == 0:
        return float(min(values[0] - 1, np.nextafter(values[0], -np.inf)))
    if answered_up_to == len(values):
        return float(values[-1] + 1)
    below, above = values[answered_up_to - 1], values[answered_up_to]
    middle = below / 2 + above / 2
    # Between two adjacent floats there is no middle: `below` itself separates them.
    return float(middle if below <= middle < above else below)
