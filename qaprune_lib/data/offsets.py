"""Which characters of its context a token stands for."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
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


def locate_tokens(encoding: Encoding, context: str) -> TokenizedContext:
    """Tokens with the characters they stand for: never empty, no space at the edges.

    Marks that the tokenizer drops (accents, vowel points, joiners) belong to the token before,
    so that an answer keeps them.
    """
    tokens = trim_tokens(encoding, context)
    marks: list[int] = []
    if not context.isascii():
        marks = [ord(char) for char in set(context) if unicodedata.category(char) in _MARKS]
    if not marks or not len(tokens.ids):
        return tokens
    codes = np.frombuffer(context.encode("utf-32-le"), np.uint32)
    after = _next(~np.isin(codes, marks))
    following = np.append(tokens.start[1:], len(context))
    end = np.maximum(tokens.end, np.minimum(after[tokens.end], following)).astype(np.int32)
    return replace(tokens, end=end)


def trim_tokens(encoding: Encoding, context: str) -> TokenizedContext:
    """As `locate_tokens`, but without the marks: enough to know where tokens begin."""
    ids = np.array(encoding.ids, np.int32)
    offsets = np.fromiter(chain.from_iterable(encoding.offsets), np.int32).reshape(-1, 2)
    start = np.minimum(offsets[:, 0], len(context) - 1)
    end = np.maximum(offsets[:, 1], start + 1)
    codes = np.frombuffer(context.encode("utf-32-le"), np.uint32)
    is_space = _IS_SPACE[np.minimum(codes, len(_IS_SPACE) - 1)]
    if is_space[start].any() or is_space[end - 1].any():
        start, end = _trim(start, end, is_space)
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
