"""Entities with typed attributes, and prose about them in which every value's place is known."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random

from qaprune_lib.data.embedded.domains import Attribute, Domain
from qaprune_lib.data.embedded.names import Names

_PRONOUNS = {"it": ("it", "its", "it"), "she": ("she", "her", "her"), "he": ("he", "his", "him")}
_FORMS = ("e", "es", "o")  # subject, possessive, object: the order of a pronoun's forms
_PRONOUN_SHARE, _NOUN_SHARE = 0.4, 0.15  # the rest are names
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Entity:
    """A generated thing or person: a value for each of its domain's attribute labels."""

    domain: Domain
    name: str
    pronoun: str
    era: int
    values: dict[str, str]


@dataclass(frozen=True)
class Fact:
    """That the text states an entity's attribute, its value at characters [start, end)."""

    entity: Entity
    label: str
    start: int
    end: int


@dataclass(frozen=True)
class Clause:
    """A statement's template and what it is about; ``attribute`` is None where it tells nothing."""

    template: str
    entity: Entity
    attribute: Attribute | None = None
    other: Entity | None = None


def draw_entity(domain: Domain, names: Names, rng: Random, unlike: Entity | None = None) -> Entity:
    """A new entity of the domain; a contemporary of ``unlike`` that has no value in common."""
    pronoun = rng.choice(("she", "he")) if domain.is_person else "it"
    name = names.person(pronoun) if domain.is_person else names.fill(rng.choice(domain.names))
    era = rng.randint(*domain.era)
    if unlike is not None:
        era = unlike.era + rng.choice((-1, 1)) * rng.randint(1, 12)
    values = {}
    for attribute in domain.attributes:
        value = attribute.kind(rng, names, era)
        while unlike is not None and value == unlike.values[attribute.label]:
            value = attribute.kind(rng, names, era)
        values[attribute.label] = value
    return Entity(domain, name, pronoun, era, values)


@dataclass
class Prose:
    """A passage that grows by sentences and remembers whom the last words were about."""

    names: Names
    rng: Random
    text: str = ""
    facts: list[Fact] = field(default_factory=list)
    _focus: Entity | None = None
    _mentioned: set[str] = field(default_factory=set)

    def sentence(self, clauses: list[Clause], joiner: str = "") -> None:
        """Append one sentence made of the clauses."""
        if self.text:
            self.text += " "
        start = len(self.text)
        self._mentioned.clear()
        for index, clause in enumerate(clauses):
            self.text += joiner if index else ""
            self._write(clause)
        self.text = f"{self.text[:start]}{self.text[start].upper()}{self.text[start + 1 :]}."
        if len(self._mentioned) > 1:
            self._focus = None  # a pronoun would be ambiguous

    def _write(self, clause: Clause) -> None:
        position = 0
        for slot in _SLOT.finditer(clause.template):
            self.text += clause.template[position : slot.start()]
            self._fill(slot.group(1), clause)
            position = slot.end()
        self.text += clause.template[position:]

    def _fill(self, slot: str, clause: Clause) -> None:
        if slot == "v":
            assert clause.attribute is not None
            start = len(self.text)
            self.text += clause.entity.values[clause.attribute.label]
            fact = Fact(clause.entity, clause.attribute.label, start, len(self.text))
            self.facts.append(fact)
        elif slot == "other":
            assert clause.other is not None
            self.text += self._refer(clause.other, "o")
        elif slot in (*_FORMS, "n"):
            self.text += self._refer(clause.entity, slot)
        else:
            self.text += self._bystander(slot, clause)

    def _refer(self, entity: Entity, form: str) -> str:
        """Name an entity, or once it is the topic say a pronoun or what sort of thing it is."""
        lot = self.rng.random() if entity is self._focus else 1.0
        if entity is self._focus and entity.name in self._mentioned:
            lot = 0.0  # two mentions in one sentence: the second is a pronoun if it may be
        self._focus = entity
        self._mentioned.add(entity.name)
        if lot < _PRONOUN_SHARE and form in _FORMS:
            return _PRONOUNS[entity.pronoun][_FORMS.index(form)]
        is_noun = lot < _PRONOUN_SHARE + _NOUN_SHARE
        name = f"the {self.rng.choice(entity.domain.nouns)}" if is_noun else entity.name
        if form != "es":
            return name
        return f"{name}'" if name.endswith("s") else f"{name}'s"

    def _bystander(self, slot: str, clause: Clause) -> str:
        if slot == "number":
            return str(self.rng.randint(13, 60))
        if slot != "before":
            return self.names.draw(slot)
        assert clause.attribute is not None
        year = int(clause.entity.values[clause.attribute.label][-4:])
        return str(year - self.rng.randint(1, 3))
