"""From the logits of windows to answers of Natural Questions, example by example."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qaprune_lib.data.natural_questions_example import AnswerType, Example, Span, YesNo
from qaprune_lib.errors import DataError, ModelError, SettingsError
from qaprune_lib.evaluation.natural_questions import NaturalQuestionsPrediction
from qaprune_lib.evaluation.spans import Windows, best_spans, group_starts

if TYPE_CHECKING:
    from datasets import Dataset

_CHUNK = 512  # windows that are searched together
_YES_NO: dict[int, YesNo] = {AnswerType.YES: "YES", AnswerType.NO: "NO"}


class WindowLogits(NamedTuple):
    """Of one window: start, end [length or more] and answer_type [5], ordered as `AnswerType`."""

    start: np.ndarray
    end: np.ndarray
    answer_type: np.ndarray


def decode_natural_questions(
    examples: Iterable[Example],
    features: Dataset,
    logits: Iterable[WindowLogits],
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
        features: all windows of them (`make_natural_questions_features`, null_rate=1).
        logits: one for each window, in order; beyond a window's length they are ignored.
        max_answer_length: in tokens of the model.

    Raises:
        DataError: windows and examples that do not belong together.
        ModelError: logits that are missing or not finite, naming the example.
        SettingsError: a length below 1.
    """
    if max_answer_length < 1:
        raise SettingsError(f"max_answer_length must be at least 1, not {max_answer_length}")
    windows = features.with_format("arrow")
    owners = np.asarray(windows.select_columns(["example_index"])[:]["example_index"])
    if (np.diff(owners) < 0).any():
        raise DataError("the windows are not in the order of the examples")
    stream = iter(logits)
    done = n_examples = 0
    chunk: list[Example] = []
    for example in examples:
        chunk.append(example)
        stop = int(np.searchsorted(owners, n_examples + len(chunk)))
        if stop - done >= _CHUNK:
            yield from _decode(
                chunk, windows, slice(done, stop), stream, max_answer_length, n_examples
            )
            done, n_examples, chunk = stop, n_examples + len(chunk), []
    stop = int(np.searchsorted(owners, n_examples + len(chunk)))
    yield from _decode(chunk, windows, slice(done, stop), stream, max_answer_length, n_examples)
    if stop < len(owners):
        raise DataError(f"{len(owners) - stop} windows belong to none of the examples")
    if next(stream, None) is not None:
        raise ModelError(f"there are logits for more than the {len(owners)} windows")


def _decode(
    examples: Sequence[Example],
    features: Dataset,
    rows: slice,
    logits: Iterator[WindowLogits],
    max_answer_length: int,
    first_example: int,
) -> Iterator[NaturalQuestionsPrediction]:
    found: dict[int, NaturalQuestionsPrediction] = {}
    if rows.start < rows.stop:
        found = _search(
            examples, features, rows, list(islice(logits, rows.stop - rows.start)),
            max_answer_length, first_example,
        )  # fmt: skip
    for number, example in enumerate(examples):
        if number not in found and _has_text(example):
            raise DataError(f"example {example.id} has no window; were its null windows left out?")
        yield found.get(number) or NaturalQuestionsPrediction(example.id, None, 0.0)


def _search(
    examples: Sequence[Example],
    features: Dataset,
    rows: slice,
    logits: Sequence[WindowLogits],
    max_answer_length: int,
    first_example: int,
) -> dict[int, NaturalQuestionsPrediction]:
    table = features[rows.start : rows.stop]
    owner = table["example_index"].to_numpy() - first_example
    lengths, context_start = table["length"].to_pylist(), table["context_start"].to_pylist()
    lists = table["document_token"].combine_chunks()
    source = lists.flatten().to_numpy()
    size = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    _check_logits([examples[number].id for number in owner], lengths, logits)

    null = np.array([float(row.start[0]) + float(row.end[0]) for row in logits])
    start, end = (
        np.concatenate(
            [side[a : a + n] for side, a, n in zip(sides, context_start, size, strict=True)],
            dtype=np.float64,
        )
        for sides in ([row.start for row in logits], [row.end for row in logits])
    )
    # No span reaches over markup: to the search, the candidates' parts are windows of their own.
    window = np.repeat(np.arange(len(size)), size)
    is_text = source >= 0
    begins = is_text & np.r_[True, ~is_text[:-1] | (np.diff(window) > 0)]
    part = np.cumsum(begins)[is_text] - 1
    parts = Windows(
        question=owner[window[begins]],
        size=np.bincount(part),
        null=np.zeros(int(begins.sum())),
        start=(start - null[window])[is_text],
        end=end[is_text],
        token_start=source[is_text],
        token_end=source[is_text],
    )
    first, last, score = best_spans(parts, min(max_answer_length, int(parts.size.max())))
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
        kind = int(np.argmax(logits[at].answer_type[1:])) + 1
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


def _check_logits(
    ids: Sequence[int], lengths: Sequence[int], logits: Sequence[WindowLogits]
) -> None:
    if len(logits) < len(lengths):
        raise ModelError(f"example {ids[len(logits)]}: there are no logits for its window")
    for identity, length, row in zip(ids, lengths, logits, strict=True):
        sizes = len(row.start), len(row.end), len(row.answer_type)
        if min(sizes[:2]) < length or sizes[2] != len(AnswerType):
            raise ModelError(
                f"example {identity}: a window of {length} tokens has {sizes[0]} start, {sizes[1]} "
                f"end and {sizes[2]} answer-type logits"
            )
        values = np.concatenate([row.start[:length], row.end[:length], row.answer_type])
        if not np.isfinite(values).all():
            raise ModelError(f"example {identity}: a logit is not finite")


def _has_text(example: Example) -> bool:
    tokens = example.tokens
    return any(
        token.isalnum()
        for start, end, top_level in example.candidates
        if top_level
        for token in tokens[start:end]
    )
