"""A teacher's windows over the same text as a student's, and whither their positions go.

Question and context of the teacher's window have the characters (for Natural Questions, the words)
of the student's; special tokens go to special ones of the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from qaprune_lib.data.natural_questions.documents import read_pages
from qaprune_lib.data.natural_questions.example import Example
from qaprune_lib.data.tokens import Layout, Tokens, read_texts, split_tokenizer
from qaprune_lib.errors import DataError

_CHUNK = 1000  # windows whose contexts are tokenised together


class AlignedWindow(NamedTuple):
    """The teacher's window: its ids and token types, and the student's positions, all [length].

    start, end: the student's token to which a start or an end at the teacher's token belongs.
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray
    start: np.ndarray
    end: np.ndarray


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
    (ours, our_layout), (theirs, their_layout) = map(split_tokenizer, (student, teacher))
    for first in range(0, len(features), _CHUNK):
        rows = features.select(range(first, min(first + _CHUNK, len(features)))).to_list()
        examples = dataset.select([row["example_index"] for row in rows])
        questions, contexts = examples["question"][:], examples["context"][:]
        asked, their_texts = read_texts(ours, questions), read_texts(theirs, questions + contexts)
        for row, question, context in zip(rows, questions, contexts, strict=True):
            told = Tokens(
                _context(row, "token_start"),
                np.array(row["token_start"], np.int32),
                np.array(row["token_end"], np.int32),
            )
            parts = _text(_question(row, our_layout, asked[question]), their_texts[question])
            yield _align(our_layout, their_layout, parts, _text(told, their_texts[context]))


def align_pages(
    features: Dataset,
    examples: Iterable[Example],
    student: PreTrainedTokenizerBase,
    teacher: PreTrainedTokenizerBase,
) -> Iterator[AlignedWindow]:
    """The teacher's window for each of the student's, in order, word by word.

    Within a word of the document the k-th token goes to the k-th for a start, and the k-th last to
    the k-th last for an end. Markup tokens go to those of the same place.

    Args:
        features: `make_features` of the student's tokenizer and the examples.
        examples: those that the features were made of.
        student, teacher: fast tokenizers with markup tokens.
    """
    (ours, our_layout), (theirs, their_layout) = map(split_tokenizer, (student, teacher))
    page: Any = None
    owner = -1
    stream = iter(examples)
    for row in features:
        while owner < row["example_index"]:
            example, owner = next(stream), owner + 1
        if page != example.page:
            page = example.page
            our_page, their_page = (_Words.of(read_pages(t, [page])[0]) for t in (ours, theirs))
        ids = _context(row, "document_token")
        begin = our_page.find(ids, np.array(row["document_token"], np.int32))
        asked = _question(row, our_layout, read_texts(ours, [example.question])[example.question])
        question = _text(asked, read_texts(theirs, [example.question])[example.question])
        words = _words(our_page, their_page, begin, begin + len(ids))
        yield _align(our_layout, their_layout, question, words)


ALIGNERS: Mapping[str, Callable[..., Iterator[AlignedWindow]]] = {
    "squad": align_windows,
    "natural_questions": align_pages,
}
"""By the name of a task."""


def _context(row: Mapping[str, Any], places: str) -> np.ndarray:
    """Ids of a window's context tokens, of which there are as many as places."""
    return np.array(row["input_ids"][row["context_start"] :][: len(row[places])], np.int32)


def _question(row: Mapping[str, Any], layout: Layout, tokens: Tokens) -> Tokens:
    """The tokens of its question that a window has."""
    return tokens[: row["context_start"] - len(layout.prefix) - len(layout.middle)]


@dataclass(frozen=True)
class _Words:
    """A page's tokens; which word or markup each is part of, and its place there from both ends.

    key: ascending, the same for all tokenizers: odd for words, even for markup.
    """

    ids: np.ndarray
    source: np.ndarray
    key: np.ndarray
    rank: np.ndarray
    rank_from_end: np.ndarray

    @classmethod
    def of(cls, document: Tokens) -> _Words:
        source = document.start
        following = np.append(source[1:], 0)  # markup stands before a word
        key = np.where(source < 0, 2 * following, 2 * source + 1)
        places = np.arange(len(key))
        rank = places - np.searchsorted(key, key)
        from_end = np.searchsorted(key, key, side="right") - 1 - places
        return cls(document.ids, source, key, rank, from_end)

    def find(self, ids: np.ndarray, source: np.ndarray) -> int:
        """Where a window's tokens begin; raises DataError where they are not there."""
        for begin in np.flatnonzero((self.ids == ids[0]) & (self.source == source[0])).tolist():
            here = slice(begin, begin + len(ids))
            if np.array_equal(self.ids[here], ids) and np.array_equal(self.source[here], source):
                return int(begin)
        raise DataError("the windows were made of other examples")


def _words(ours: _Words, theirs: _Words, begin: int, stop: int) -> _Part:
    """Their tokens of the words in our tokens from `begin` to `stop`.

    Of a word that an edge of the window cuts they leave out, or keep, as many tokens as we do.
    """
    first = np.searchsorted(theirs.key, ours.key[begin]) + ours.rank[begin]
    first = min(first, np.searchsorted(theirs.key, ours.key[begin], side="right"))
    last = np.searchsorted(theirs.key, ours.key[stop - 1], side="right")
    if ours.rank_from_end[stop - 1]:
        cut = np.searchsorted(theirs.key, ours.key[stop - 1]) + ours.rank[stop - 1] + 1
        last = min(last, cut)
    span = slice(int(first), int(max(first, last)))
    key = theirs.key[span]
    left, right = (np.searchsorted(ours.key, key, side=side) for side in ("left", "right"))
    start = np.minimum(left + theirs.rank[span], np.maximum(right - 1, left))
    end = np.maximum(right - 1 - theirs.rank_from_end[span], np.minimum(left, right - 1))
    n_ours = stop - begin
    start, end = (np.clip(side - begin, 0, n_ours - 1) for side in (start, end))
    return _Part(theirs.ids[span], start, end, n_ours)


class _Part(NamedTuple):
    """A part of the teacher's window, and the places in the student's, which has `n_ours`."""

    ids: np.ndarray
    start: np.ndarray
    end: np.ndarray
    n_ours: int


def _align(ours: Layout, theirs: Layout, question: _Part, context: _Part) -> AlignedWindow:
    parts = (
        _special(ours.prefix, theirs.prefix),
        question,
        _special(ours.middle, theirs.middle),
        context,
        _special(ours.suffix, theirs.suffix),
    )
    begins = np.cumsum([0, *(part.n_ours for part in parts[:-1])])
    start, end = (
        np.concatenate(
            [begin + getattr(part, side) for begin, part in zip(begins, parts, strict=True)]
        )
        for side in ("start", "end")
    )
    return AlignedWindow(
        input_ids=np.concatenate([part.ids for part in parts]).astype(np.int32),
        token_type_ids=np.repeat(theirs.types, [len(part.ids) for part in parts]),
        start=np.maximum(start, 0).astype(np.int16),
        end=np.maximum(end, 0).astype(np.int16),
    )


def _special(ours: np.ndarray, theirs: np.ndarray) -> _Part:
    """The k-th goes to the k-th; what is too much to the last, or to the token before."""
    places = np.minimum(np.arange(len(theirs)), len(ours) - 1)
    return _Part(theirs, places, places, len(ours))


def _text(ours: Tokens, theirs: Tokens) -> _Part:
    """Their tokens that lie in the characters that ours cover, and the places of ours.

    Where an edge cuts a character of several tokens, as many of them as we have there.
    """
    first = np.searchsorted(theirs.start, ours.start[0])
    n_first = int((theirs.start == ours.start[0]).sum())
    first += max(0, n_first - int((ours.start == ours.start[0]).sum()))
    last = np.searchsorted(theirs.end, ours.end[-1], side="right")
    n_last = int((theirs.end == ours.end[-1]).sum())
    last -= max(0, n_last - int((ours.end == ours.end[-1]).sum()))
    theirs = theirs[int(first) : int(max(first, last))]
    start = _holders(ours.start, theirs.start, after=False)
    end = _holders(ours.end, theirs.end, after=True)
    return _Part(theirs.ids, start, end, len(ours.ids))


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
