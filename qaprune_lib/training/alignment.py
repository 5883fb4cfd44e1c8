"""A teacher with another tokenizer: its windows over a student's, and whither its logits go.

The teacher reads the same characters of question and context as the student. The probability that
it gives to a start at one of its tokens goes to the student's token that holds the first character
of this token, and that of an end to the one that holds the last; several of them add up. A token of
the student in which none of the teacher's starts gets no start. Special tokens go to special ones
of the same place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase

from qaprune_lib.data.offsets import TokenizedContext, locate_tokens
from qaprune_lib.data.squad import data_digest
from qaprune_lib.data.windows import Layout, split_tokenizer, tokenizer_state
from qaprune_lib.errors import SettingsError
from qaprune_lib.evaluation.logits import window_logits
from qaprune_lib.models.encoder import architecture_of
from qaprune_lib.models.pruned import QuestionAnsweringModel

NO_MASS = -1e4  # a logit without probability at any temperature that makes sense, yet finite
_CHUNK = 1000  # windows whose contexts are tokenised together


@dataclass(frozen=True)
class AlignedWindow:
    """The teacher's window: its ids and token types, and the student's positions, all [length].

    start, end: the student's token to which a start or an end at the teacher's token belongs.
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray
    start: np.ndarray
    end: np.ndarray


@dataclass(frozen=True)
class Alignment:
    """What it takes to align a teacher: the student's tokenizer, and the data of its windows."""

    student: PreTrainedTokenizerBase
    dataset: Dataset

    def digest(self, teacher: PreTrainedTokenizerBase) -> str:
        """Identity (hex) of the data and of both tokenizers."""
        states = (tokenizer_state(tokenizer) for tokenizer in (self.student, teacher))
        return hashlib.sha256("".join([data_digest(self.dataset), *states]).encode()).hexdigest()

    def logits(
        self, features: Dataset, teacher: QuestionAnsweringModel, *, progress: bool = True
    ) -> tuple[list[np.ndarray], ...]:
        """The teacher's start and end logits at the student's tokens, a list of each by window.

        Raises:
            SettingsError: the teacher needs more tokens for a window than it has positions.
        """
        windows = list(align_windows(features, self.dataset, self.student, teacher.tokenizer))
        longest, limit = max(len(window.input_ids) for window in windows), longest_input(teacher)
        if longest > limit:
            raise SettingsError(
                f"a window takes {longest} of the teacher's tokens, which has {limit} positions: "
                "choose a smaller max_length"
            )
        lengths = features["length"][:]
        start, end = window_logits(teacher, _teacher_features(windows), progress=progress)
        return tuple(
            [
                carry(row, getattr(window, side), length)
                for row, window, length in zip(rows, windows, lengths, strict=True)
            ]
            for side, rows in (("start", start), ("end", end))
        )


def longest_input(model: QuestionAnsweringModel) -> int:
    """How many tokens a model has positions for."""
    positions = model.get_submodule(
        f"{model.base_model_prefix}.{architecture_of(model.config).embeddings}.position_embeddings"
    )
    assert isinstance(positions, nn.Embedding)
    # RoBERTa's and MPNet's positions start after their padding index
    used = 0 if positions.padding_idx is None else positions.padding_idx + 1
    return positions.num_embeddings - used


class _Reader:
    """A tokenizer as windows are cut with it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        has_types = "token_type_ids" in tokenizer.model_input_names
        self.backend, self.layout = split_tokenizer(tokenizer_state(tokenizer), has_types)

    def read(self, texts: list[str]) -> dict[str, TokenizedContext]:
        """The tokens of each distinct text, and their characters."""
        distinct = list(dict.fromkeys(texts))
        encodings = self.backend.encode_batch(distinct)
        return {t: locate_tokens(e, t) for t, e in zip(distinct, encodings, strict=True)}


def align_windows(
    features: Dataset,
    dataset: Dataset,
    student: PreTrainedTokenizerBase,
    teacher: PreTrainedTokenizerBase,
) -> Iterator[AlignedWindow]:
    """The teacher's window for each of the student's, in order.

    Args:
        features: `make_features` of the student's tokenizer and the dataset.
        dataset: rows of `load_squad`.
        student, teacher: fast tokenizers.
    """
    ours, theirs = _Reader(student), _Reader(teacher)
    for first in range(0, len(features), _CHUNK):
        rows = features.select(range(first, min(first + _CHUNK, len(features)))).to_list()
        examples = dataset.select([row["example_index"] for row in rows])
        questions, contexts = examples["question"][:], examples["context"][:]
        our_questions = ours.read(questions)
        their_questions, their_contexts = theirs.read(questions), theirs.read(contexts)
        for row, question, context in zip(rows, questions, contexts, strict=True):
            n_around = len(ours.layout.prefix) + len(ours.layout.middle)
            asked = _part(our_questions[question], 0, row["context_start"] - n_around)
            n_context = len(row["token_start"])
            told = TokenizedContext(
                np.array(row["input_ids"][row["context_start"] :][:n_context], np.int32),
                np.array(row["token_start"], np.int32),
                np.array(row["token_end"], np.int32),
            )
            yield _align(
                ours.layout,
                theirs.layout,
                (asked, told),
                (_within(their_questions[question], asked), _within(their_contexts[context], told)),
            )


def carry(logits: np.ndarray, places: np.ndarray, length: int) -> np.ndarray:
    """The log of the summed exponentials of all logits that go to each of `length` places.

    A place that none goes to has `NO_MASS`; float32.
    """
    carried = np.full(length, -np.inf)
    np.logaddexp.at(carried, places, logits.astype(np.float64))
    return np.where(np.isfinite(carried), carried, NO_MASS).astype(np.float32)


def _teacher_features(windows: Sequence[AlignedWindow]) -> Dataset:
    """The teacher's windows as features for `window_logits`."""
    offsets = np.cumsum([0, *(len(window.input_ids) for window in windows)])
    columns = {
        name: pa.LargeListArray.from_arrays(
            offsets, pa.array(np.concatenate([getattr(window, name) for window in windows]))
        )
        for name in ("input_ids", "token_type_ids")
    }
    return Dataset(pa.table({**columns, "length": np.diff(offsets)}))


def _part(text: TokenizedContext, first: int, last: int) -> TokenizedContext:
    return TokenizedContext(text.ids[first:last], text.start[first:last], text.end[first:last])


def _within(text: TokenizedContext, span: TokenizedContext) -> TokenizedContext:
    """The tokens that lie in the characters that another tokenizer's tokens cover.

    Where an edge cuts a character of several tokens, as many of them as the other has there.
    """
    first = np.searchsorted(text.start, span.start[0])
    n_first = int((text.start == span.start[0]).sum())
    first += max(0, n_first - int((span.start == span.start[0]).sum()))
    last = np.searchsorted(text.end, span.end[-1], side="right")
    n_last = int((text.end == span.end[-1]).sum())
    last -= max(0, n_last - int((span.end == span.end[-1]).sum()))
    return _part(text, int(first), int(max(first, last)))


def _align(
    ours: Layout,
    theirs: Layout,
    our_texts: tuple[TokenizedContext, TokenizedContext],
    their_texts: tuple[TokenizedContext, TokenizedContext],
) -> AlignedWindow:
    parts = (
        _special(ours.prefix, theirs.prefix),
        _text(our_texts[0], their_texts[0]),
        _special(ours.middle, theirs.middle),
        _text(our_texts[1], their_texts[1]),
        _special(ours.suffix, theirs.suffix),
    )
    begins = np.cumsum([0, *(part.n_ours for part in parts)])
    sides = [
        np.concatenate(
            [begin + getattr(part, side) for begin, part in zip(begins, parts, strict=False)]
        )
        for side in ("start", "end")
    ]
    return AlignedWindow(
        input_ids=np.concatenate([part.ids for part in parts]).astype(np.int32),
        token_type_ids=np.repeat(
            np.array(theirs.types, np.int8), [len(part.ids) for part in parts]
        ),
        start=np.maximum(sides[0], 0).astype(np.int16),
        end=np.maximum(sides[1], 0).astype(np.int16),
    )


class _Part(NamedTuple):
    """A part of the teacher's window, and the places in the student's, which has `n_ours`."""

    ids: np.ndarray
    start: np.ndarray
    end: np.ndarray
    n_ours: int


def _text(ours: TokenizedContext, theirs: TokenizedContext) -> _Part:
    start = _holders(ours.start, theirs.start, after=False)
    end = _holders(ours.end, theirs.end, after=True)
    return _Part(theirs.ids, start, end, len(ours.ids))


def _special(ours: np.ndarray, theirs: np.ndarray) -> _Part:
    """The k-th goes to the k-th; what is too much to the last, or to the token before."""
    places = np.minimum(np.arange(len(theirs)), len(ours) - 1)
    return _Part(theirs, places, places, len(ours))


def _holders(ours: np.ndarray, theirs: np.ndarray, *, after: bool) -> np.ndarray:
    """Of each of their tokens, the place of ours that holds its edge.

    `ours` and `theirs` are the same edge, start or end, of all tokens, ascending. Where several
    tokens of one character share an edge, the k-th goes to the k-th.
    """
    at = np.searchsorted(ours, theirs)
    stop = np.searchsorted(ours, theirs, side="right")
    rank = np.arange(len(theirs)) - np.searchsorted(theirs, theirs)
    shared = np.minimum(at + rank, stop - 1)
    alone = at if after else at - 1
    return np.clip(np.where(at < stop, shared, alone), 0, len(ours) - 1)
