"""What a tokenizer makes of texts: tokens, the characters they stand for, and special tokens."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any

import numpy as np
import regex
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from qaprune_lib.data.unicode_forms import code_points, white_space
from qaprune_lib.errors import SettingsError

_PART, _OVERLAP = 2**17, 2**10  # characters
# not \s: tokenizers drop some of what Python calls white space, as U+0085, and join its neighbours
_BETWEEN_WORDS = re.compile(r"(?<=[^\W_])[ \t\n](?=[^\W_])")
_MARKS = {"Mn", "Mc", "Me", "Cf"}  # Unicode categories: combining marks and joiners
_CLUSTER = regex.compile(r"\X")
# a character that can share a cluster with its neighbour
_ALONE = r"\p{GCB=XX}\p{GCB=CN}\p{GCB=LV}\p{GCB=LVT}\p{GCB=CR}\p{GCB=LF}"
_JOINED = regex.compile(rf"[^{_ALONE}]")
# such characters with those beside them: between two others a cluster ends, but for \r\n
_NEAR_JOINED = regex.compile(rf"[{_ALONE}]?[^{_ALONE}]+(?:[{_ALONE}][^{_ALONE}]+)*[{_ALONE}]?")
_LINE_END = re.compile(r"\r\n")


@dataclass(frozen=True)
class Tokens:
    """Ids of a text's tokens, and where in the text each begins and ends: [n_tokens] int32 each.

    Places count characters, or words where the text is a page of Natural Questions.
    """

    ids: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def __getitem__(self, part: slice) -> Tokens:
        """Some of them."""
        return Tokens(self.ids[part], self.start[part], self.end[part])


def read_texts(backend: Tokenizer, texts: Iterable[str]) -> dict[str, Tokens]:
    """The tokens of each distinct text, located by `locate_tokens`.

    A long text is read in parts: a tokenizer needs some hundred bytes for each character.
    """
    distinct = list(dict.fromkeys(texts))
    short = [text for text in distinct if len(text) <= _PART]
    encodings = backend.encode_batch(short)
    located = {text: locate_tokens(e, text) for text, e in zip(short, encodings, strict=True)}
    return {text: located.get(text) or _in_parts(backend, text) for text in distinct}


def _in_parts(backend: Tokenizer, text: str) -> Tokens:
    """The tokens of a long text, read in parts.

    A part ends at a single space between words, where no token and no mark crosses. Where there is
    none, as in scripts without spaces, it overlaps with the next one, and they are joined where
    both have the same tokens.
    """
    parts: list[Tokens] = []
    begin = end = 0
    while end < len(text):
        cut = _BETWEEN_WORDS.search(text, begin + _PART, begin + _PART + _OVERLAP)
        read, end = end, begin + _PART + _OVERLAP if cut is None else cut.start()
        found = locate_tokens(backend.encode(text[begin:end]), text[begin:end])
        tokens = Tokens(found.ids, found.start + begin, found.end + begin)
        if begin < read:
            parts[-1], tokens = _join(parts[-1], tokens, begin, read)
        parts.append(tokens)
        begin = end - _OVERLAP if cut is None else end
    columns = ([getattr(part, name) for part in parts] for name in ("ids", "start", "end"))
    return Tokens(*map(np.concatenate, columns))


def _join(left: Tokens, right: Tokens, begin: int, end: int) -> tuple[Tokens, Tokens]:
    """Tokens of two parts that share the text from `begin` to `end`, so that none is there twice.

    The seam is before two tokens that both parts have, as near to the middle as can be: what a
    part's ends have changed is not there. In a word longer than the shared text it is at `end`.
    """
    middle = (begin + end) // 2
    one, other = (
        _places(tokens) for tokens in (left[_from(left, begin) :], right[: _from(right, end)])
    )
    if shared := sorted(one.keys() & other.keys(), key=lambda pair: abs(pair[0][1] - middle)):
        return left[: _from(left, begin) + one[shared[0]]], right[other[shared[0]] :]
    rest = right[_from(right, end) :]
    return left, Tokens(rest.ids, np.maximum(rest.start, end), rest.end)


def _places(tokens: Tokens) -> dict[Any, int]:
    """The number of the first of two tokens in a row, by both."""
    rows = zip(tokens.ids.tolist(), tokens.start.tolist(), tokens.end.tolist(), strict=True)
    return {pair: n for n, pair in enumerate(pairwise(rows))}


def _from(tokens: Tokens, place: int) -> int:
    """How many tokens end at a place or before it."""
    return int(np.searchsorted(tokens.end, place, side="right"))


def locate_tokens(encoding: Encoding, text: str) -> Tokens:
    """Tokens with the characters they stand for: whole grapheme clusters, no space at the edges.

    A token of white space alone keeps it, and so begins with white space as no other does. What the
    tokenizer drops and nobody sees (joiners) belongs to the token before: an answer keeps it.
    """
    ids = np.array(encoding.ids, np.int32)
    offsets = np.fromiter(chain.from_iterable(encoding.offsets), np.int32).reshape(-1, 2)
    start = np.minimum(offsets[:, 0], len(text) - 1)
    end = np.maximum(offsets[:, 1], start + 1)
    codes, is_space = code_points(text), white_space(text)
    if "\r\n" in text or (not text.isascii() and _JOINED.search(text)):
        first, after = _clusters(text)
        start, end, is_space = first[start], after[end - 1], is_space[first]
    if is_space[start].any() or is_space[end - 1].any():
        start, end = _trim(start, end, is_space)
    marks: list[int] = []
    if not text.isascii():
        marks = [ord(char) for char in set(text) if unicodedata.category(char) in _MARKS]
    if marks and len(ids):
        after = _next(~np.isin(codes, marks))
        following = np.append(start[1:], len(text))
        end = np.maximum(end, np.minimum(after[end], following)).astype(np.int32)
    return Tokens(ids, start, end)


def _next(flags: np.ndarray) -> np.ndarray:
    """For each position [n + 1] the first one from there on whose flag [n] is set, or n."""
    positions = np.where(np.append(flags, True), np.arange(len(flags) + 1), len(flags))
    return np.minimum.accumulate(positions[::-1])[::-1]


def _trim(
    start: np.ndarray, end: np.ndarray, is_space: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    n = len(is_space)
    inner_start = _next(~is_space)[start]
    inner_end = n - _next(~is_space[::-1])[n - end]
    has_text = inner_start < inner_end
    return (
        np.where(has_text, inner_start, start).astype(np.int32),
        np.where(has_text, inner_end, end).astype(np.int32),
    )


def _clusters(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Of each character where its grapheme cluster (UAX #29) begins, and where it ends."""
    is_end = np.ones(len(text), bool)
    for part in _NEAR_JOINED.finditer(text):
        for cluster in _CLUSTER.finditer(part[0]):
            is_end[part.start() + cluster.start() : part.start() + cluster.end() - 1] = False
    is_end[[match.start() for match in _LINE_END.finditer(text)]] = False
    ends = np.flatnonzero(is_end).astype(np.int32) + 1
    sizes = np.diff(ends, prepend=0)
    return np.repeat(ends - sizes, sizes), np.repeat(ends, sizes)


@dataclass(frozen=True)
class Layout:
    """What a tokenizer puts around a question and its context, and their token types.

    types: int8, of the prefix, the question, the middle, the context and the suffix.
    """

    prefix: np.ndarray
    middle: np.ndarray
    suffix: np.ndarray
    types: np.ndarray

    @property
    def n_special(self) -> int:
        """Special tokens of a window."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)


def tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> tuple[str, bool]:
    """All that windows depend on: a fast tokenizer as JSON, and whether it gives token types.

    The truncation and padding of its latest call are no part of it.

    Raises:
        SettingsError: the tokenizer is not a fast one.
    """
    if not tokenizer.is_fast:
        raise SettingsError(
            f"{type(tokenizer).__name__} is not a fast tokenizer, so it gives no offsets; load it "
            f"with AutoTokenizer.from_pretrained(...) from a folder with a tokenizer.json"
        )
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    has_types = "token_type_ids" in tokenizer.model_input_names
    return json.dumps(state | {"truncation": None, "padding": None}), has_types


def split_tokenizer(tokenizer: PreTrainedTokenizerBase) -> tuple[Tokenizer, Layout]:
    """A tokenizer that adds no special tokens, and where they belong."""
    return _split(*tokenizer_state(tokenizer))


@lru_cache(maxsize=4)  # parsing a vocabulary takes longer than tokenising one question
def _split(state: str, has_types: bool) -> tuple[Tokenizer, Layout]:
    backend = Tokenizer.from_str(state)
    layout = _layout(backend, has_types)
    # It would also trim the offsets of some tokens to nothing; `locate_tokens` knows better.
    backend.post_processor = None
    return backend, layout


def _layout(backend: Tokenizer, has_types: bool) -> Layout:
    pair = backend.encode("a", "a")
    sequence = pair.sequence_ids
    order = [number for number in sequence if number is not None]
    if order != sorted(order) or set(order) != {0, 1} or sequence[0] is not None:
        raise SettingsError(
            "the tokenizer does not put a first special token, the question and the context in "
            f"this order: a pair of texts gives {pair.tokens}"
        )
    question, context = sequence.index(0), sequence.index(1)
    middle, suffix = question + order.count(0), context + order.count(1)
    ids = np.array(pair.ids, np.int32)
    # Positions that stand for their part; an empty middle or suffix repeats its type no times.
    at = (0, question, middle, context, min(suffix, len(ids) - 1))
    types = np.array([pair.type_ids[i] if has_types else 0 for i in at], np.int8)
    return Layout(ids[:question], ids[middle:context], ids[suffix:], types)
