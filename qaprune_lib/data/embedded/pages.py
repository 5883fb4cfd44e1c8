"""Generated pages of paragraphs, a table and a list, with questions on them.

A page is about a sort of thing in one place. Each paragraph tells of one such thing, in the words
of the passages of `embedded`; the table and the list tell of more of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from qaprune_lib.data.embedded.articles import group_clauses
from qaprune_lib.data.embedded.domains import Attribute, Domain, load_domains
from qaprune_lib.data.embedded.names import Names
from qaprune_lib.data.embedded.prose import Clause, Entity, Prose, draw_entity

QUESTIONS = 4  # a page
PARAGRAPHS = (5, 8)
STATED = (3, 5)  # values in a paragraph, which fits with its question in 128 word pieces
LISTED = (3, 5)  # things in the table and in the list
COLUMNS = 3
UNANSWERED = 0.5
ASKED = {"short": 0.75, "long": 0.15, "yes_no": 0.1}

_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|\w+(?:[-'’]\w+)*'?|[^\w\s]")
_LONG_ASKS = ("What is known about {e}?", "What does one read about {e}?", "Describe {e}")
_YES_NO_ASKS = (
    "Is it true that the {label} of {e} is {v}?",
    "Does {v} stand for {label} in the record of {e}?",
)
Span = tuple[int, int]


@dataclass(frozen=True)
class PageFact:
    """That tokens of the page state an entity's attribute; ``block`` is the candidate."""

    entity: Entity
    label: str
    span: Span
    block: int


@dataclass
class Page:
    """Tokens of a page that grows by blocks: its candidates, and the facts that it states."""

    domain: Domain
    title: str
    tokens: list[str] = field(default_factory=list)
    candidates: list[tuple[Span, bool]] = field(default_factory=list)
    facts: list[PageFact] = field(default_factory=list)
    entities: list[Entity] = field(default_factory=list)
    introduced: list[tuple[Entity, int]] = field(default_factory=list)  # with their paragraphs

    def add(self, text: str) -> list[Span]:
        """Append a text's tokens; gives the characters of each."""
        found = [match.span() for match in _TOKEN.finditer(text)]
        self.tokens += [text[a:b] for a, b in found]
        return found

    def add_prose(self, prose: Prose, block: int) -> None:
        """Append a text with what it states."""
        first = len(self.tokens)
        spans = self.add(prose.text)
        for fact in prose.facts:
            inside = [i for i, (a, b) in enumerate(spans) if a < fact.end and b > fact.start]
            span = first + inside[0], first + inside[-1] + 1
            self.facts.append(PageFact(fact.entity, fact.label, span, block))


@dataclass(frozen=True)
class PageQuestion:
    """A question with its answer's candidate (None: there is no answer), short span or yes/no."""

    text: str
    block: int | None
    short: Span | None = None
    yes_no: str = "NONE"


def generate_pages(split: str, seed: int = 0) -> Iterator[tuple[Page, list[PageQuestion]]]:
    """Pages of "train" or "dev" without end, with their questions; deterministic in the seed.

    No name occurs in both splits.
    """
    rng = Random(f"nq {split} {seed}")
    names = Names(split, seed, rng)
    domains = load_domains()
    titles: set[str] = set()
    while True:
        names.forget()
        domain = domains[len(titles) % len(domains)]
        title = names.fill(domain.title)
        if title not in titles:
            titles.add(title)
            page = _page(domain, title, names, rng)
            yield page, _questions(page, names, rng)


def _page(domain: Domain, title: str, names: Names, rng: Random) -> Page:
    page = Page(domain, title)
    page.tokens.append("<H1>")
    page.add(title)
    page.tokens.append("</H1>")
    blocks = [_paragraph] * rng.randint(*PARAGRAPHS) + [_table, _list]
    for add_block in (blocks[0], *rng.sample(blocks[1:], len(blocks) - 1)):
        place, start = len(page.candidates), len(page.tokens)
        page.candidates.append(((start, start), True))
        add_block(page, place, names, rng)
        page.candidates[place] = ((start, len(page.tokens)), True)
    return page


def _paragraph(page: Page, block: int, names: Names, rng: Random) -> None:
    entity, prose = draw_entity(page.domain, names, rng), Prose(names, rng)
    stated = rng.sample(page.domain.attributes, rng.randint(*STATED))
    clauses = [Clause(rng.choice(attribute.says), entity, attribute) for attribute in stated]
    prose.sentence([Clause(rng.choice(page.domain.intros), entity)])
    for sentence, joiner in group_clauses(clauses, rng):
        prose.sentence(sentence, joiner)
    page.tokens.append("<P>")
    page.add_prose(prose, block)
    page.tokens.append("</P>")
    page.entities.append(entity)
    page.introduced.append((entity, block))


def _table(page: Page, block: int, names: Names, rng: Random) -> None:
    attributes = rng.sample(page.domain.attributes, COLUMNS)
    page.tokens.append("<Table>")
    _row(page, "Th", ["name", *(attribute.label for attribute in attributes)])
    for _ in range(rng.randint(*LISTED)):
        entity = draw_entity(page.domain, names, rng)
        values = [entity.values[attribute.label] for attribute in attributes]
        cells = _row(page, "Td", [entity.name, *values])
        page.entities.append(entity)
        page.facts += [
            PageFact(entity, attribute.label, cell, block)
            for attribute, cell in zip(attributes, cells[1:], strict=True)
        ]
    page.tokens.append("</Table>")


def _row(page: Page, tag: str, cells: list[str]) -> list[Span]:
    start, spans = len(page.tokens), []
    page.tokens.append("<Tr>")
    for cell in cells:
        page.tokens.append(f"<{tag}>")
        first = len(page.tokens)
        page.add(cell)
        spans.append((first, len(page.tokens)))
        page.tokens.append(f"</{tag}>")
    page.tokens.append("</Tr>")
    page.candidates.append(((start, len(page.tokens)), False))
    return spans


def _list(page: Page, block: int, names: Names, rng: Random) -> None:
    page.tokens.append("<Ul>")
    for _ in range(rng.randint(*LISTED)):
        entity, prose = draw_entity(page.domain, names, rng), Prose(names, rng)
        for attribute in rng.sample(page.domain.attributes, rng.randint(1, 2)):
            prose.sentence([Clause(rng.choice(attribute.says), entity, attribute)])
        start = len(page.tokens)
        page.tokens.append("<Li>")
        page.add_prose(prose, block)
        page.tokens.append("</Li>")
        page.candidates.append(((start, len(page.tokens)), False))
        page.entities.append(entity)
    page.tokens.append("</Ul>")


def _questions(page: Page, names: Names, rng: Random) -> list[PageQuestion]:
    """Different questions; whether one has an answer is decided before what it asks for."""
    questions: dict[str, PageQuestion] = {}
    while len(questions) < QUESTIONS:
        has_answer = rng.random() >= UNANSWERED
        kind = rng.choices(list(ASKED), list(ASKED.values()))[0]
        question = (_ask_for_all if kind == "long" else _ask)(page, kind, has_answer, names, rng)
        questions.setdefault(question.text, question)
    return list(questions.values())


def _ask_for_all(page: Page, _: str, has_answer: bool, names: Names, rng: Random) -> PageQuestion:
    """About a thing that a paragraph introduces, or that the page does not know."""
    entity, block = rng.choice(page.introduced)
    if not has_answer:
        entity = draw_entity(page.domain, names, rng)
    text = rng.choice(_LONG_ASKS).replace("{e}", entity.name)
    return PageQuestion(text, block if has_answer else None)


def _ask(page: Page, kind: str, has_answer: bool, names: Names, rng: Random) -> PageQuestion:
    """For an attribute's value, or whether it is a given one."""
    if has_answer:
        fact = rng.choice(page.facts)
        entity, attribute = fact.entity, _attribute(page.domain, fact.label)
    else:
        stated = {(fact.entity.name, fact.label) for fact in page.facts}
        entity, attribute = rng.choice(
            [
                (entity, attribute)
                for entity in page.entities
                for attribute in page.domain.attributes
                if (entity.name, attribute.label) not in stated
            ]
        )
    if kind == "short":
        text = rng.choice(attribute.asks).replace("{e}", entity.name)
        return PageQuestion(text, fact.block, fact.span) if has_answer else PageQuestion(text, None)
    value = entity.values[attribute.label]
    is_right = rng.random() < 0.5
    if not is_right:
        value = draw_entity(page.domain, names, rng, unlike=entity).values[attribute.label]
    slots = {"{label}": attribute.label, "{e}": entity.name, "{v}": value}
    text = re.sub(r"\{\w+\}", lambda slot: slots[slot[0]], rng.choice(_YES_NO_ASKS))
    if not has_answer:
        return PageQuestion(text, None)
    return PageQuestion(text, fact.block, yes_no="YES" if is_right else "NO")


def _attribute(domain: Domain, label: str) -> Attribute:
    return next(attribute for attribute in domain.attributes if attribute.label == label)
