"""The numbers of the paper's running text, read from text.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel


class Number(BaseModel, frozen=True, extra="forbid"):
    """One printed number and its place; text.toml says what is what."""

    value: float
    unit: str
    sd: float | None = None
    section: str
    figure: int | None = None
    words: str

    @property
    def source(self) -> str:
        """The place in words, for instance "Section 4.2.2"."""
        return "Abstract" if self.section == "Abstract" else f"Section {self.section}"


_DATA = tomllib.loads(Path(__file__).with_name("text.toml").read_text(encoding="utf-8"))

TEXT: dict[str, Number] = {
    name: Number(section=section, **number)
    for section, numbers in _DATA.items()
    for name, number in numbers.items()
}
"""Each printed number by a name of ours."""


def of_figure(figure: int) -> dict[str, Number]:
    """What the text prints of a figure's points; empty for a figure of which it prints none.

    >>> {name: number.value for name, number in of_figure(1).items()}
    {'heads_removable': 48.0}
    """
    return {name: number for name, number in TEXT.items() if number.figure == figure}
