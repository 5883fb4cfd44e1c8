"""Texts as code points: which are blank, and which differ in their Unicode form alone."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import numpy as np
import regex

_IS_SPACE = np.array([chr(code).isspace() for code in range(0x3002)])  # no space lies beyond
_BLANK = regex.compile(r"[\s\p{Cc}\p{Default_Ignorable_Code_Point}]")
_AFTER_BLANKS = 0xE1000  # no blank character lies beyond
_LONGEST = 300  # characters that are compared


def code_points(text: str) -> np.ndarray:
    """The code point of each character, uint32."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def white_space(text: str) -> np.ndarray:
    """Of each character whether it is white space."""
    return _IS_SPACE[np.minimum(code_points(text), len(_IS_SPACE) - 1)]


def blanks(text: str) -> np.ndarray:
    r"""Of each character whether nobody sees it alone: white space, controls, joiners.

    >>> blanks("a \u200b\x00\u00e9").tolist()
    [False, True, True, True, False]
    """
    return _blank_codes()[np.minimum(code_points(text), _AFTER_BLANKS)]


def blank_tokens(text: str, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Of each token whether nobody would see it as an answer.

    One that begins with white space is nothing else (`locate_tokens`).
    """
    start, end = np.minimum(start, len(text)), np.minimum(end, len(text))
    seen = np.cumsum(np.append(False, ~blanks(text)))
    return np.append(white_space(text), True)[start] | (seen[start] == seen[end])


@lru_cache(maxsize=1)
def _blank_codes() -> np.ndarray:
    flags = np.zeros(_AFTER_BLANKS + 1, bool)
    every = "".join(map(chr, (*range(0xD800), *range(0xE000, _AFTER_BLANKS))))
    flags[[ord(char) for char in _BLANK.findall(every)]] = True
    return flags


def form_hint(expected: str, found: str) -> str:
    """For a message about two strings: their code points, where they differ in form alone.

    >>> form_hint("\u00e9", "e\u0301").split(";")[0]
    ' - the same but for its Unicode form (U+00E9 against U+0065 U+0301 at character 0)'
    >>> form_hint("a", "b")
    ''
    """
    if expected == found or _form(expected) != _form(found):
        return ""
    pairs = enumerate(zip(expected, found, strict=False))
    at = next((place for place, (one, other) in pairs if one != other), 0)
    one, other = (
        " ".join(f"U+{ord(char):04X}" for char in text[at : at + 2]) for text in (expected, found)
    )
    return (
        f" - the same but for its Unicode form ({one} against {other} at character {at}); write "
        f"both in one form, such as unicodedata.normalize('NFC', text)"
    )


def same_but_for_form(expected: str, text: str, start: int) -> str | None:
    """What stands at a place of a text, if that is the expected string in another form."""
    wanted = _form(expected)
    if len(expected) > _LONGEST or not _form(text[start : start + _LONGEST]).startswith(wanted[:1]):
        return None
    ends = range(start + 1, min(len(text), start + 4 * len(expected)) + 1)
    return next((text[start:end] for end in ends if _form(text[start:end]) == wanted), None)


def _form(text: str) -> str:
    return unicodedata.normalize("NFKC", text)
