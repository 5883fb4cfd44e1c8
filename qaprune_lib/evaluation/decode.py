"""From the logits of windows to answers, one for each question; numpy alone, without torch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from qaprune_lib.data.arrow_cache import column
from qaprune_lib.data.natural_questions.example import AnswerType, Example, Span, YesNo
from qaprune_lib.data.unicode_forms import blank_tokens
from qaprune_lib.errors import DataError, ModelError, counts
from qaprune_lib.evaluation.n_best import rank, top_spans
from qaprune_lib.evaluation.natural_questions import NaturalQuestionsPrediction
from qaprune_lib.evaluation.spans import best_spans, group_starts, read_windows
from qaprune_lib.evaluation.squad import Prediction

if TYPE_CHECKING:
    from datasets import Dataset

_CHUNK = 512  # windows that are searched together
_YES_NO: dict[int, YesNo] = {AnswerType.YES: "YES", AnswerType.NO: "NO"}

Logits = Sequence[np.ndarray]
"""Of one window: start and end [length or more]; of Natural Questions also answer types [5]."""


def decode(
    dataset: Dataset,
    features: Dataset,
    logits: Iterable[Logits],
    *,
    max_answer_length: int = 30,
    n_best: int | None = None,
) -> list[Prediction]:
    """The best answer to each row of `dataset`, in order.

    A span lies in one window's context, has start <= end and at most `max_answer_length` tokens,
    and the largest start + end logit; of equals the one in the earliest window, with the earliest
    start, the shortest. None begins or ends at a token of white space alone.

    Args:
        dataset: rows of `load_squad`.
        features: their windows, in any order.
        logits: start and end, of each window; beyond a window's length they are ignored.
        max_answer_length: in tokens.
        n_best: list so many answers to each, the best first, with probabilities.

    Raises:
        DataError: windows and questions that do not belong together.
        ModelError: a logit that is missing or not finite, naming the question.
        SettingsError: a length below 1.
    """
    (max_answer_length,) = counts(max_answer_length=max_answer_length)
    (n_best,) = counts(or_none=True, n_best=n_best)
    ids, rows = dataset["id"][:], list(logits)
    if not ids:
        raise DataError("there are no questions to answer: the data set is empty")
    if len(rows) != len(features):
        raise ModelError(f"there are {len(features)} windows, but logits for {len(rows)}")
    owner = column(features, "example_index")
    absent = np.setdiff1d(np.arange(len(ids)), owner)
    if len(absent):
        raise DataError(f"question {ids[absent[0]]!r} has no window ({len(absent)} such)")
    if not 0 <= owner.min() <= owner.max() < len(ids):
        raise DataError("there are windows of questions that are not in the data set")
    order = np.argsort(owner, kind="stable")
    windows = read_windows(
        features.select(order).with_format("arrow")[:],
        owner[order],
        [rows[i] for i in order],
        ("token_start", "token_end"),
        lambda number: f"question {ids[number]!r}",
    )
    contexts = dataset["context"][:]
    begins = np.repeat(np.cumsum([0, *map(len, contexts)])[windows.question], windows.size)
    is_blank = blank_tokens(
        "".join(contexts), begins + windows.token_start, begins + windows.token_end
    )
    windows.start[is_blank] = windows.end[is_blank] = -np.inf
    first, last, score = best_spans(windows, max_answer_length)
    null_score = np.minimum.reduceat(windows.null, group_starts(windows.question))
    spans = top_spans(windows, max_answer_length, n_best) if n_best else [()] * len(ids)
    predictions = []
    for identity, context, left, right, best, null, others in zip(
        ids, contexts, windows.token_start[first].tolist(),
        windows.token_end[last].tolist(), score.tolist(), null_score.tolist(), spans, strict=True,
    ):  # fmt: skip
        if right > len(context):
            raise DataError(
                f"question {identity!r}: a window has characters {left} to {right} of a context of "
                f"{len(context)}: the windows were made from other data"
            )
        listed = rank(context, others, null, n_best) if n_best else ()
        answer = Prediction(identity, context[left:right], left, right, best, null, listed)
        predictions.append(answer)
    return predictions


def decode_natural_questions(
    examples: Iterable[Example],
    features: Dataset,
    logits: Iterable[Logits],
    *,
    max_answer_length: int = 30,
) -> Iterator[NaturalQuestionsPrediction]:
    """The best answer to each example, in order, in memory for some windows at a time.

    As Alberti et al. (2019): the score of a span is its start and end logit less those of its
    window's first token; the best span of at most `max_answer_length` tokens within one candidate
    is the short answer, the candidate that holds it the long one, and its score that of both.
    Where the answer type of that window is yes or no rather than short or long, this is the short
    answer instead. Of equals: the earliest window, the earliest start, the shortest.

    Args:
        examples: those that the features were made of.
        features: all windows of them, in their order.
        logits: start, end and answer types (in the order of `AnswerType`), of each window.
        max_answer_length: in tokens of the model.

    Raises:
        DataError: windows and examples that do not belong together.
        ModelError: logits that are missing or not finite, naming the example.
        SettingsError: a length below 1.
    """
    (max_answer_length,) = counts(max_answer_length=max_answer_length)
    windows = features.with_format("arrow")
    owners = column(features, "example_index")
    if (np.diff(owners) < 0).any():
        raise DataError("the windows are not in the order of the examples")
    stream = iter(logits)
    done = n_examples = 0

    def answers(chunk: list[Example], stop: int) -> Iterator[NaturalQuestionsPrediction]:
        found: dict[int, NaturalQuestionsPrediction] = {}
        if done < stop:
            of_each = list(islice(stream, stop - done))
            found = _search(chunk, windows[done:stop], n_examples, of_each, max_answer_length)
        for number, example in enumerate(chunk):
            if number not in found and _has_text(example):
                raise DataError(
                    f"example {example.id} has no window; were its null windows left out?"
                )
            yield found.get(number) or NaturalQuestionsPrediction(example.id, None, 0.0)

    chunk: list[Example] = []
    for example in examples:
        chunk.append(example)
        stop = int(np.searchsorted(owners, n_examples + len(chunk)))
        if stop - done >= _CHUNK:
            yield from answers(chunk, stop)
            done, n_examples, chunk = stop, n_examples + len(chunk), []
    stop = int(np.searchsorted(owners, n_examples + len(chunk)))
    yield from answers(chunk, stop)
    if stop < len(owners):
        raise DataError(f"{len(owners) - stop} windows belong to none of the examples")
    if next(stream, None) is not None:
        raise ModelError(f"there are logits for more than the {len(owners)} windows")


def _search(
    examples: Sequence[Example],
    table: Any,
    first_example: int,
    logits: Sequence[Logits],
    max_answer_length: int,
) -> dict[int, NaturalQuestionsPrediction]:
    """Answers by the examples' places, of those that have windows."""
    owner = table["example_index"].to_numpy() - first_example

    def name(number: int) -> str:
        return f"example {examples[number].id}"

    windows = read_windows(table, owner, logits, ("document_token", "document_token"), name)
    for number, row in zip(owner, logits, strict=True):
        if len(row[2]) != len(AnswerType):
            raise ModelError(f"{name(number)}: a window has {len(row[2])} answer-type logits")
        if not np.isfinite(row[2]).all():
            raise ModelError(f"{name(number)}: a logit is not finite")
    # No span reaches over markup: to the search, the candidates' parts are windows of their own.
    window = np.repeat(np.arange(len(owner)), windows.size)
    is_text = windows.token_start >= 0
    begins = is_text & np.r_[True, ~is_text[:-1] | (np.diff(window) > 0)]
    parts = replace(
        windows,
        question=owner[window[begins]],
        size=np.bincount(np.cumsum(begins)[is_text] - 1),
        start=(windows.start - windows.null[window])[is_text],
        end=windows.end[is_text],
        token_start=windows.token_start[is_text],
        token_end=windows.token_end[is_text],
    )
    first, last, score = best_spans(parts, max_answer_length)
    found = {}
    for number, left, right, best, at in zip(
        parts.question[group_starts(parts.question)].tolist(),
        parts.token_start[first].tolist(),
        parts.token_end[last].tolist(),
        score.tolist(),
        window[is_text][first].tolist(),
        strict=True,
    ):
        example, span = examples[number], Span(left, right + 1)
        kind = int(np.argmax(logits[at][2][1:])) + 1
        yes_no = _YES_NO.get(kind, "NONE")
        short = (span,) if yes_no == "NONE" else ()
        long = _holder(example, span)
        found[number] = NaturalQuestionsPrediction(example.id, long, best, short, yes_no, best)
    return found


def _holder(example: Example, span: Span) -> Span:
    """The top-level candidate that holds a span."""
    top_level = sorted(Span(*c[:2]) for c in example.candidates if c.top_level)
    at = bisect_right(top_level, span.start, key=lambda candidate: candidate.start) - 1
    if at < 0 or not span.end <= top_level[at].end:
        raise DataError(f"example {example.id}: the windows were made of another document")
    return top_level[at]


def _has_text(example: Example) -> bool:
    return any(word.isalnum() for _, words in example.page.passages() for word in words)


DECODERS: Mapping[str, Callable[..., Iterable[Any]]] = {
    "squad": decode,
    "natural_questions": decode_natural_questions,
}
"""By the name of a task: questions, windows and their logits to answers."""
