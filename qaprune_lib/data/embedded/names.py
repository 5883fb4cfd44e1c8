"""Names of the embedded corpus: places, surnames, titles and persons that exist in one split only.

Names are products of short parts, so there are thousands of each sort; train and dev draw from
disjoint shares of every product.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from importlib import resources
from random import Random
from typing import Any

_DEV_SHARE = 5  # one name in five is kept for dev
_TRIPLED = re.compile(r"(\w)\1\1")
_FIELD = re.compile(r"\{(\w+)\}")


def read_table(name: str) -> dict[str, Any]:
    """A table of the corpus, from the TOML file of that name beside this module."""
    return tomllib.loads(resources.files(__package__).joinpath(name).read_text("utf-8"))


class Names:
    """The names of "train" or "dev". Each draw is new until :meth:`forget` is called."""

    def __init__(self, split: str, seed: int, rng: Random) -> None:
        table = read_table("names.toml")
        self._rng = rng
        self._used: set[str] = set()
        self._given = {pronoun: names.split() for pronoun, names in table["given"].items()}
        self._pools = {
            "place": _share(table["place"], "", split, seed),
            "surname": _share(table["surname"], "", split, seed),
            "title": _share(table["title"], " ", split, seed),
        }

    def forget(self) -> None:
        """Allow names that were drawn before."""
        self._used.clear()

    def draw(self, sort: str) -> str:
        """A new "place", "surname", "title" or "person"."""
        if sort == "person":
            return self.person(self._rng.choice(("she", "he")))
        while (name := self._rng.choice(self._pools[sort])) in self._used:
            pass
        self._used.add(name)
        return name

    def person(self, pronoun: str) -> str:
        """The full name of a "she" or a "he", with a new surname."""
        return f"{self._rng.choice(self._given[pronoun])} {self.draw('surname')}"

    def fill(self, pattern: str) -> str:
        """Replace {place}, {surname}, {title} and {person} in a pattern by new names."""
        return _FIELD.sub(lambda field: self.draw(field[1]), pattern)


def _share(parts: dict[str, str], joiner: str, split: str, seed: int) -> list[str]:
    """The share of all pairs of parts that belongs to a split."""
    pairs = itertools.product(parts["first"].split(), parts["second"].split())
    joined = (joiner.join(pair) for pair in pairs)
    names = [name for name in joined if not _TRIPLED.search(name)]
    Random(seed).shuffle(names)
    cut = len(names) // _DEV_SHARE
    return names[:cut] if split == "dev" else names[cut:]
