"""Which characters of its context a token stands for."""

from __future__ import annotations

import sys
import unicodedata
from dataclasses import dataclass
from functools import cache
from itertools import chain

import numpy as np
from tokenizers import Encoding

_IS_SPACE = np.array([chr(code).isspace() for code in range(0x3002)])  # no space lies beyond
_MARKS = {"Mn", "Mc", "Me", "Cf"}  # Unicode categories: combining marks and joiners


@dataclass(frozen=True)
class TokenizedContext:
    """Ids and character offsets of a context's tokens, each [n_tokens] int32."""

    ids: np.ndarray
    start: np.ndarray
    end: np.ndarray


@cache
def _is_mark() -> np.ndarray:
    """Of each code point whether it is a mark; made once, in a fifth of a second."""
    points = range(sys.maxunicode + 1)
    marks = (unicodedata.category(chr(code)) in _MARKS for code in points)
    return np.fromiter(marks, bool, len(points))


def locate_tokens(encoding: Encoding, context: str) -> TokenizedContext:
    """Tokens with the characters they stand for: never empty, no space at the edges.

    Marks that the tokenizer drops (accents, vowel points, joiners) belong to the token before,
    so that an answer keeps them.
    """
    ids = np.array(encoding.ids, np.int32)
    offsets = np.fromiter(chain.from_iterable(encoding.offsets), np.int32).reshape(-1, 2)
    start = np.minimum(offsets[:, 0], len(context) - 1)
    end = np.maximum(offsets[:, 1], start + 1)
    codes = np.frombuffer(context.encode("utf-32-le"), np.uint32)
    is_space = _IS_SPACE[np.minimum(codes, len(_IS_SPACE) - 1)]
    if is_space[start].any() or is_space[end - 1].any():
        start, end = _trim(start, end, is_space)
    if not context.isascii():
        is_mark = _is_mark()[codes]
        if is_mark.any() and len(ids):
            after = _next(~is_mark)
            following = np.append(start[1:], len(context))
            end = np.maximum(end, np.minimum(after[end], following)).astype(np.int32)
    return TokenizedContext(ids, start, end)


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
