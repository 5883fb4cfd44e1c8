"""Types of values in the embedded corpus: each draws one for an entity that begins in a year."""

from __future__ import annotations

from random import Random
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from qaprune_lib.data.embedded.names import Names

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_NUMERALS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@dataclass(frozen=True)
class Year:
    """A year between ``low`` and ``high`` years after the entity's beginning."""

    type: Literal["year"]
    low: int
    high: int

    def __call__(self, rng: Random, names: Names, era: int) -> str:
        """Draw a year."""
        return str(era + rng.randint(self.low, self.high))


@dataclass(frozen=True)
class Date:
    """A day in such a year, as 4 May 1902."""

    type: Literal["date"]
    low: int
    high: int

    def __call__(self, rng: Random, names: Names, era: int) -> str:
        """Draw a day."""
        year = era + rng.randint(self.low, self.high)
        return f"{rng.randint(1, 28)} {rng.choice(_MONTHS)} {year}"


@dataclass(frozen=True)
class Number:
    """``low`` plus a multiple of ``step``, at most ``high``, followed by its unit if it has one."""

    type: Literal["number"]
    low: int
    high: int
    unit: str = ""
    step: int = 1

    def __call__(self, rng: Random, names: Names, era: int) -> str:
        """Draw a quantity."""
        number = rng.randrange(self.low, self.high + 1, self.step)
        digits = _NUMERALS[number] if number < len(_NUMERALS) else f"{number:,}"
        return f"{digits} {self.unit}".strip()


@dataclass(frozen=True)
class Named:
    """A name made by a pattern with fields such as {place}."""

    type: Literal["named"]
    pattern: str

    def __call__(self, rng: Random, names: Names, era: int) -> str:
        """Draw a name that is new to the passage."""
        return names.fill(self.pattern)


@dataclass(frozen=True)
class Phrase:
    """A short noun phrase: of each part one of the options that slashes separate."""

    type: Literal["phrase"]
    parts: tuple[str, ...]

    def __call__(self, rng: Random, names: Names, era: int) -> str:
        """Draw a phrase."""
        return " ".join(rng.choice(part.split("/")) for part in self.parts)


Kind = Annotated[Year | Date | Number | Named | Phrase, Field(discriminator="type")]
