"""From a question-answering model to answers: span search over logits, one answer a question.

The span search is numpy alone, so torch is imported only where a model runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qaprune_lib.errors import DataError, SettingsError
from qaprune_lib.evaluation.logits import tokenizer_of, window_logits
from qaprune_lib.evaluation.spans import best_spans, group_starts, read_windows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Prediction:
    """The best span for a question, and the score of "no answer" to compare it with.

    start, end: character offsets; ``text == context[start:end]``.
    score: start logit + end logit of the span.
    null_score: the least start[0] + end[0] over the question's windows.
    """

    id: str
    text: str
    start: int
    end: int
    score: float
    null_score: float


@dataclass(frozen=True)
class Answer:
    """The best span for one question; fields as in `Prediction`.

    The model holds the question for unanswerable where ``null_score - score`` exceeds 0, or a
    threshold fitted on other data.
    """

    text: str
    score: float
    null_score: float
    start: int
    end: int


def decode(
    dataset: Dataset,
    features: Dataset,
    start_logits: Sequence[np.ndarray],
    end_logits: Sequence[np.ndarray],
    *,
    max_answer_length: int = 30,
) -> list[Prediction]:
    """The best answer to each row of `dataset`, in order.

    A span lies in one window's context, has start <= end and at most `max_answer_length` tokens,
    and the largest start + end logit; of equals the one in the earliest window, with the earliest
    start, the shortest. Logits beyond a window's length are ignored.

    Raises DataError where windows and questions do not belong together, ModelError naming the
    question where a logit is missing or not finite, SettingsError for a length below 1.
    """
    if max_answer_length < 1:
        raise SettingsError(f"max_answer_length must be at least 1, not {max_answer_length}")
    ids: list[str] = list(dataset["id"])
    if not ids:
        raise DataError("there are no questions to answer: the data set is empty")
    windows = read_windows(features, start_logits, end_logits, ids)
    first, last, score = best_spans(windows, min(max_answer_length, int(windows.size.max())))
    null_score = np.minimum.reduceat(windows.null, group_starts(windows.question))
    contexts: list[str] = list(dataset["context"])
    predictions = []
    for i, (left, right) in enumerate(
        zip(windows.token_start[first].tolist(), windows.token_end[last].tolist(), strict=True)
    ):
        if right > len(contexts[i]):
            raise DataError(
                f"question {ids[i]!r}: a window has characters {left} to {right} of a context of "
                f"{len(contexts[i])}: the windows were made from other data"
            )
        text, best, null = contexts[i][left:right], float(score[i]), float(null_score[i])
        predictions.append(Prediction(ids[i], text, left, right, best, null))
    return predictions


def predict(
    model: PreTrainedModel,
    dataset: Dataset,
    *,
    max_length: int = 384,
    doc_stride: int = 128,
    max_question_length: int = 64,
    max_answer_length: int = 30,
    max_tokens: int | None = None,
    progress: bool = True,
    num_proc: int | None = None,
    cache_dir: Path | None = None,
) -> list[Prediction]:
    """One answer for each row of `dataset`: `make_features`, `window_logits`, `decode`.

    Lengths are in tokens; `doc_stride` is the step from one window to the next.
    """
    from qaprune_lib.data.features import make_features

    features = make_features(
        dataset,
        tokenizer_of(model),
        max_length=max_length,
        doc_stride=doc_stride,
        max_question_length=max_question_length,
        num_proc=num_proc,
        cache_dir=cache_dir,
    )
    start, end, *_ = window_logits(model, features, max_tokens=max_tokens, progress=progress)
    return decode(dataset, features, start, end, max_answer_length=max_answer_length)


def ask(
    model: PreTrainedModel,
    question: str,
    context: str,
    *,
    max_length: int = 384,
    doc_stride: int = 128,
    max_question_length: int = 64,
    max_answer_length: int = 30,
) -> Answer:
    """Answer one question about one context; settings as in `predict`, nothing is cached.

    Raises DataError where question or context is empty.
    """
    from datasets import Dataset

    from qaprune_lib.data.windows import WindowCutter, WindowSettings

    for name, text in (("question", question), ("context", context)):
        if not text.strip():
            raise DataError(f"the {name} is empty")
    no_answer: dict[str, list[Any]] = {"text": [], "answer_start": []}
    dataset = Dataset.from_dict(
        {"id": [question], "question": [question], "context": [context], "answers": [no_answer]}
    )
    sizes = WindowSettings(max_length, doc_stride, max_question_length)
    features = Dataset(WindowCutter(tokenizer_of(model), sizes)(dataset.data.table, [0]))
    start, end, *_ = window_logits(model, features, progress=False)
    found = decode(dataset, features, start, end, max_answer_length=max_answer_length)[0]
    return Answer(found.text, found.score, found.null_score, found.start, found.end)
