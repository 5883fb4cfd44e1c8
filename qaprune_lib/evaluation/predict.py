"""From a model and questions to answers and their scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, overload

from datasets import Dataset
from transformers import PreTrainedModel

from qaprune_lib.data.natural_questions.stream import NaturalQuestions
from qaprune_lib.data.squad.contexts import SQUAD
from qaprune_lib.data.windows import WindowCutter, Windows
from qaprune_lib.errors import DataError, short
from qaprune_lib.evaluation.decode import decode, decode_natural_questions
from qaprune_lib.evaluation.logits import (
    features_for,
    stream_logits,
    tokenizer_of,
    window_logits,
    windows_for,
)
from qaprune_lib.evaluation.n_best import RankedSpan, rank
from qaprune_lib.evaluation.natural_questions import (
    NaturalQuestionsPrediction,
    NaturalQuestionsResult,
    score_natural_questions,
)
from qaprune_lib.evaluation.squad import Prediction, SquadResult, fit_threshold, score_predictions

Texts: TypeAlias = list[str] | tuple[str, ...]


def predict(
    model: PreTrainedModel,
    dataset: Dataset,
    *,
    windows: Windows | None = None,
    max_answer_length: int = 30,
    n_best: int | None = None,
    max_tokens: int | None = None,
    progress: bool = True,
    num_proc: int | None = None,
    cache_dir: Path | None = None,
) -> list[Prediction]:
    """One answer for each row of `dataset`, always without dropout.

    An answer is made of whole characters as readers see them (grapheme clusters), and neither
    begins nor ends in white space.

    Args:
        model: a question-answering model with its tokenizer.
        dataset: rows of `load_squad`; they need no answers.
        windows: by default of 384 tokens, or of as many as the model has positions for.
        max_answer_length: longest answer, in tokens.
        n_best: list so many answers to each question, in ``n_best``, with probabilities.
        max_tokens: of a batch, padding included; as for `stream_logits`.
        progress: show a bar.
        num_proc, cache_dir: as for `make_features`.

    Raises:
        ModelError: a model for another task or without tokenizer, or logits that are not finite.
        DataError: bad data.
        SettingsError: windows longer than the model has positions for, or a number below 1.

    >>> from qaprune_lib import load_model, load_squad
    >>> model, dev = load_model("embedded-small", device="cpu"), load_squad("embedded")["dev"]
    >>> answer, *_ = predict(model, dev.select(range(3)), progress=False)
    >>> answer.text == dev[0]["context"][answer.start : answer.end]
    True
    """
    features = features_for(model, dataset, windows, num_proc=num_proc, cache_dir=cache_dir)
    logits = window_logits(model, features, max_tokens=max_tokens, progress=progress)
    return decode(dataset, features, logits, max_answer_length=max_answer_length, n_best=n_best)


def evaluate(
    model: PreTrainedModel, dataset: Dataset, threshold_from: Dataset | None = None, **settings: Any
) -> SquadResult:
    """Decode `dataset` with `model` and score the answers.

    `threshold_from` is data to fit the no-answer threshold on (never `dataset` itself); the
    settings are those of `predict`.

    >>> from qaprune_lib import load_model, load_squad
    >>> model, dev = load_model("embedded-small", device="cpu"), load_squad("embedded")["dev"]
    >>> result = evaluate(model, dev.select(range(5)), progress=False)
    >>> result.at_zero.HasAns_total, result.at_zero.NoAns_total
    (4, 1)
    """
    threshold = None
    if threshold_from is not None:
        threshold = fit_threshold(threshold_from, predict(model, threshold_from, **settings))
    return score_predictions(dataset, predict(model, dataset, **settings), threshold=threshold)


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
    n_best: tuple[RankedSpan, ...] = ()


@overload
def ask(
    model: PreTrainedModel,
    question: str,
    context: str,
    *,
    windows: Windows | None = ...,
    max_answer_length: int = ...,
    n_best: int | None = ...,
) -> Answer: ...
@overload
def ask(
    model: PreTrainedModel,
    question: Texts,
    context: str | Texts,
    *,
    windows: Windows | None = ...,
    max_answer_length: int = ...,
    n_best: int | None = ...,
) -> list[Answer]: ...


def ask(
    model: PreTrainedModel,
    question: str | Texts,
    context: str | Texts,
    *,
    windows: Windows | None = None,
    max_answer_length: int = 30,
    n_best: int | None = None,
) -> Answer | list[Answer]:
    """Answer one question about one context; settings as for `predict`, nothing is cached.

    A list of questions gets a list of answers, about one context or about one context each. Of a
    long context some windows at a time are in memory.

    Raises:
        DataError: question or context is empty or no text, or lists of different lengths.
        ModelError, SettingsError: as `predict`.

    >>> from qaprune_lib import load_model
    >>> model = load_model("embedded-small", device="cpu")  # whose head was never trained
    >>> ask(model, "Who wrote it?", "Ada").text
    'Ada'
    >>> [answer.text for answer in ask(model, ["Who?", "Where?"], "Ada")]
    ['Ada', 'Ada']
    """
    if isinstance(question, str) and isinstance(context, str):
        return _ask(model, question, context, windows, max_answer_length, n_best)
    questions, contexts = _listed("question", question), _listed("context", context)
    if isinstance(context, str):
        contexts = contexts * len(questions)
    if isinstance(question, str) or len(questions) != len(contexts):
        raise DataError(
            f"{len(questions)} questions go with one context, or with as many, not with a list of "
            f"{len(contexts)}"
        )
    return [
        _ask(model, *pair, windows, max_answer_length, n_best)
        for pair in zip(questions, contexts, strict=True)
    ]


def _listed(name: str, given: Any) -> list[str]:
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Iterable) or isinstance(given, bytes | Mapping):
        raise DataError(f"the {name} must be a text or a list of them, not {short(given)}")
    return list(given)


def _ask(
    model: PreTrainedModel,
    question: str,
    context: str,
    windows: Windows | None,
    max_answer_length: int,
    n_best: int | None,
) -> Answer:
    for name, text in (("question", question), ("context", context)):
        if not isinstance(text, str):
            raise DataError(f"the {name} must be a text, not {short(text)}")
        if not text.strip():
            raise DataError(f"the {name} is empty")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"the {name} is no text: half of a surrogate pair at character {error.start}"
            ) from error
    row = {"id": [question], "question": [question], "context": [context], "answers": [None]}
    cutter = WindowCutter(SQUAD, tokenizer_of(model), windows_for(model, SQUAD, windows))
    dataset, parts = Dataset.from_dict(row), []
    for table in cutter(0, row):
        if len(table):
            features = Dataset(table)
            logits = window_logits(model, features, progress=False)
            parts += decode(
                dataset, features, logits, max_answer_length=max_answer_length, n_best=n_best
            )
    best = max(parts, key=lambda part: part.score)
    null_score = min(part.null_score for part in parts)
    spans = [(span.score, span.start, span.end) for part in parts for span in part.n_best]
    listed = rank(context, spans, null_score, n_best) if n_best else ()
    return Answer(best.text, best.score, null_score, best.start, best.end, listed)


def predict_natural_questions(
    model: PreTrainedModel,
    examples: NaturalQuestions,
    *,
    windows: Windows | None = None,
    max_answer_length: int = 30,
    max_tokens: int | None = None,
    progress: bool = True,
    num_proc: int | None = None,
    cache_dir: Path | None = None,
) -> Iterator[NaturalQuestionsPrediction]:
    """One answer for each example, in order, as they come.

    The windows lie on disk, and memory holds some hundreds of documents and some thousands of
    windows' logits.

    Args:
        model: with the head for Natural Questions.
        examples: one split of `load_natural_questions`; annotations are not looked at.
        windows: by default of 512 tokens.
        max_answer_length, max_tokens, progress, num_proc, cache_dir: as for `predict`.

    Raises:
        ModelError, DataError: as `predict`.

    >>> from qaprune_lib import load_model, load_natural_questions
    >>> model = load_model("embedded-small", task="natural_questions", device="cpu")
    >>> few = load_natural_questions("embedded")["dev"].sample(0.02)
    >>> next(predict_natural_questions(model, few, windows=Windows(128), progress=False)).yes_no
    'NONE'
    """
    features = features_for(model, examples, windows, num_proc=num_proc, cache_dir=cache_dir)
    logits = stream_logits(model, features, max_tokens=max_tokens, progress=progress)
    return decode_natural_questions(examples, features, logits, max_answer_length=max_answer_length)


def evaluate_natural_questions(
    model: PreTrainedModel, examples: NaturalQuestions, **settings: Any
) -> NaturalQuestionsResult:
    """Score a model's answers with the official evaluator, in one pass over the windows.

    The examples have the annotations of several annotators; settings and errors are those of
    `predict_natural_questions` and `score_natural_questions`. It needs the extra `nq`.

    >>> from qaprune_lib import load_model, load_natural_questions
    >>> model = load_model("embedded-small", layers=1, task="natural_questions", device="cpu")
    >>> few = load_natural_questions("embedded")["dev"].sample(0.01)
    >>> evaluate_natural_questions(model, few, windows=Windows(128), progress=False).n_examples
    4
    """
    return score_natural_questions(examples, predict_natural_questions(model, examples, **settings))
