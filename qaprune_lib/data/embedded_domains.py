"""The domains of the embedded corpus, read from the table ``embedded_domains.toml`` beside it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from qaprune_lib.data.embedded_names import read_table
from qaprune_lib.data.embedded_values import KINDS, Kind


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
    is_person: bool
    intros: tuple[str, ...]
    links: tuple[str, ...]
    attributes: tuple[Attribute, ...]


def _attribute(row: dict[str, Any]) -> Attribute:
    settings = {key: tuple(v) if isinstance(v, list) else v for key, v in row["kind"].items()}
    kind = KINDS[str(settings.pop("type"))](**settings)
    return Attribute(row["label"], kind, tuple(row["says"]), tuple(row["asks"]))


def _domain(row: dict[str, Any]) -> Domain:
    return Domain(
        name=row["name"],
        title=row["title"],
        names=tuple(row["names"]),
        nouns=tuple(row["nouns"]),
        era=tuple(row["era"]),
        is_person=row.get("is_person", False),
        intros=tuple(row["intros"]),
        links=tuple(row["links"]),
        attributes=tuple(_attribute(attribute) for attribute in row["attributes"]),
    )


@functools.cache
def load_domains() -> tuple[Domain, ...]:
    """All domains, in the table's order."""
    return tuple(_domain(row) for row in read_table("embedded_domains.toml")["domain"])
