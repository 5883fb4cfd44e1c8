"""The domains of the embedded corpus, read from the table ``domains.toml`` beside it."""

from __future__ import annotations

import functools

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from qaprune_lib.data.embedded.names import read_table
from qaprune_lib.data.embedded.values import Kind


@dataclass(frozen=True)
class Attribute:
    """A property of an entity: its label, type of value, statements and questions."""

    label: str
    kind: Kind
    says: tuple[str, ...]
    asks: tuple[str, ...]


@dataclass(frozen=True)
class Domain:
    """A sort of entity: patterns of its names, what to call it, and what can be said of it."""

    name: str
    title: str
    names: tuple[str, ...]
    nouns: tuple[str, ...]
    era: tuple[int, int]
    intros: tuple[str, ...]
    links: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    is_person: bool = False


@functools.cache
def load_domains() -> tuple[Domain, ...]:
    """All domains, in the table's order."""
    table = read_table("domains.toml")["domain"]
    return TypeAdapter(tuple[Domain, ...]).validate_python(table)
