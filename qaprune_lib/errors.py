"""The errors a user can meet: each names what is wrong, where, and what to do."""

from __future__ import annotations

import math
import operator
import reprlib
import sys
import warnings
from numbers import Real
from pathlib import Path
from typing import Any

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 1000
_LARGEST = 2**63 - 1
_PACKAGE = str(Path(__file__).parent)


class QapruneError(ValueError):
    """Base of every error this library raises on purpose."""


class DataError(QapruneError):
    """Data that cannot be read or does not say what it claims to say."""


class ModelError(QapruneError):
    """A model or a model folder that is damaged, unsupported or out of reach."""


class GateError(QapruneError):
    """Masks or gate scores of the wrong shape, or masks that a model did not use."""


class TopologyError(QapruneError):
    """A topology that is malformed or belongs to a model of another shape."""


class RecordError(QapruneError):
    """A record of a run that is damaged or contradicts another."""


class SettingsError(QapruneError):
    """A parameter of a run that has no meaning: out of range, NaN, or contradictory."""


class QapruneWarning(UserWarning):
    """Done as asked, though it is likely not what was meant: the message says so in numbers."""


def integer(value: Any) -> int | None:
    """The integer that a value is: Python's or numpy's, or a float without a fraction; else None.

    >>> integer(3.0), integer(3.5), integer(True)
    (3, None, None)
    """
    if isinstance(value, bool):
        return None
    is_whole = isinstance(value, int) or getattr(value, "is_integer", bool)()
    try:
        return int(value) if is_whole else operator.index(value)
    except TypeError:
        return None


def real(value: Any) -> float:
    """The real number that a value is, Python's or numpy's; else NaN, which no range holds.

    >>> real(1), real(0.5), real("0.5"), real(True)
    (1, 0.5, nan, nan)
    """
    if isinstance(value, bool):
        return math.nan
    if isinstance(value, int):
        return value if value.bit_length() < 1024 else math.nan  # beyond all floats
    return float(value) if isinstance(value, Real) else math.nan


def counts(
    *, least: int = 1, most: int | None = None, or_none: bool = False, **values: Any
) -> list[Any]:
    """The values in order as integers, however each is given; None stays None where it may.

    Raises:
        SettingsError: one that is no integer, or less than `least` or more than `most`.

    >>> counts(rows=64.0, steps=3)
    [64, 3]
    """
    found = []
    for name, value in values.items():
        number = integer(value)
        last = _LARGEST if most is None else most
        if (number is None or not least <= number <= last) and not (or_none and value is None):
            is_large = number is not None and number > last
            limits = f"from {least} to {last}" if most or is_large else f"of at least {least}"
            raise SettingsError(f"{name}={short(value)} must be an integer {limits}")
        found.append(number)
    return found


def short(value: Any, width: int = 80) -> str:
    """A value in a message: of bounded length and time, whatever it is."""
    try:
        text = _REPR.repr(value)
    except (ValueError, RecursionError):  # Python prints no integer of thousands of digits
        text = f"a {type(value).__name__} too large to print"
    return text if len(text) <= width else text[: width - 1] + "…"


def warn(message: str) -> None:
    """Warn at the line outside of this package that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, QapruneWarning, stacklevel=level)
