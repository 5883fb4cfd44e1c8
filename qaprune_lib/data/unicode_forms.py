"""Texts as code points: which are white space, and which differ in their Unicode form alone."""

from __future__ import annotations

import unicodedata

import numpy as np

_IS_SPACE = np.array([chr(code).isspace() for code in range(0x3002)])  # no space lies beyond
_LONGEST = 300  # characters that are compared


def code_points(text: str) -> np.ndarray:
    """The code point of each character, uint32."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def white_space(text: str) -> np.ndarray:
    """Of each character whether it is white space."""
    return _IS_SPACE[np.minimum(code_points(text), len(_IS_SPACE) - 1)]


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
