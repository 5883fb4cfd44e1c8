"""Which characters of its text a token stands for."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from tokenizers import Encoding, Tokenizer

_IS_SPACE = np.array([chr(code).isspace() for code in range(0x3002)])  # no space lies beyond
_MARKS = {"Mn", "Mc", "Me", "Cf"}  # Unicode categories: combining marks and joiners


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
    """The tokens of each distinct text, located by `locate_tokens`."""
    distinct = list(dict.fromkeys(texts))
    encodings = backend.encode_batch(distinct)
    return {text: locate_tokens(e, text) for text, e in zip(distinct, encodings, strict=True)}


def locate_tokens(encoding: Encoding, text: str) -> Tokens:
    """Tokens with the characters they stand for: never empty, no space at the edges.

    Marks that the tokenizer drops (accents, vowel points, joiners) belong to the token before,
    so that an answer keeps them.
    """
    ids = np.array(encoding.ids, np.int32)
    offsets = np.fromiter(chain.from_iterable(encoding.offsets), np.int32).reshape(-1, 2)
    start = np.minimum(offsets[:, 0], len(text) - 1)
    end = np.maximum(offsets[:, 1], start + 1)
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    is_space = _IS_SPACE[np.minimum(codes, len(_IS_SPACE) - 1)]
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
