"""A generated reading-comprehension corpus in the form of SQuAD 2.0, for work without a network.

An article is about a sort of thing in one place; each of its passages tells of two such things,
which share some attributes and differ in others. A third of the questions ask for what the
passage does not state, or states only of the other thing. Questions use other words than the
statements that answer them, so word overlap does not find the answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from qaprune_lib.data.embedded.domains import Attribute, Domain, load_domains
from qaprune_lib.data.embedded.names import Names
from qaprune_lib.data.embedded.prose import Clause, Entity, Fact, Prose, draw_entity
from qaprune_lib.errors import SettingsError

ARTICLES: dict[str, int] = {"train": 320, "dev": 48}
PASSAGES = 3  # an article
QUESTIONS = 5  # a passage
WORDS = (60, 85)  # a passage and a question fit in 128 word pieces
UNANSWERABLE = 0.35
INTRODUCED = 0.7  # of the passages begin with a sentence that states no value
SWAPPED = 0.35  # of these, as far as possible, the passage answers for the other entity
ABOUT_MAIN = 0.55

_SAME_TOPIC = (", and ", "; ")
_CONTRAST = (", whereas ", ", while ", "; by contrast, ")


Sentence = tuple[list[Clause], str]  # clauses, and what joins them


@dataclass(frozen=True)
class Passage:
    """A text and the values it states, in the order of the text."""

    text: str
    entities: tuple[Entity, Entity]
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Question:
    """A question on an attribute of an entity; ``fact`` is None where the passage is silent."""

    text: str
    entity: Entity
    attribute: Attribute
    fact: Fact | None


@dataclass(frozen=True)
class Article:
    """Passages on one sort of thing, each with its questions."""

    title: str
    domain: Domain
    passages: tuple[tuple[Passage, tuple[Question, ...]], ...]


def generate_articles(split: str, count: int, seed: int = 0) -> list[Article]:
    """Articles of "train" or "dev", their domains in turn; no name occurs in both splits.

    Deterministic in all arguments; a larger ``count`` begins with the same articles. Any other
    split is a SettingsError.
    """
    if split not in ARTICLES:
        raise SettingsError(f"split {split!r} does not exist: the corpus has {list(ARTICLES)}")
    rng = Random(f"{split} {seed}")
    names = Names(split, seed, rng)
    domains = load_domains()
    articles: list[Article] = []
    titles: set[str] = set()
    while len(articles) < count:
        names.forget()
        article = _article(domains[len(articles) % len(domains)], names, rng)
        if article.title not in titles:
            titles.add(article.title)
            articles.append(article)
    return articles


def generate_squad(seed: int = 0, articles: dict[str, int] | None = None) -> dict[str, Any]:
    """The corpus as official SQuAD 2.0 JSON objects, one for each split.

    ``articles`` gives the number of articles of each split, by default 320 for "train" and 48 for
    "dev"; each has 3 passages of 60 to 85 words with 5 questions each.
    Deterministic in the seed; a split that does not exist is a SettingsError.
    """
    sizes = ARTICLES if articles is None else articles
    return {
        split: {
            "version": "v2.0",
            "data": [
                _article_json(article, f"{split}-{index:04d}")
                for index, article in enumerate(generate_articles(split, count, seed))
            ],
        }
        for split, count in sizes.items()
    }


def _article(domain: Domain, names: Names, rng: Random) -> Article:
    title = names.fill(domain.title)
    passages = [_passage(domain, names, rng) for _ in range(PASSAGES)]
    return Article(title, domain, tuple((p, _questions(p, rng)) for p in passages))


def _passage(domain: Domain, names: Names, rng: Random) -> Passage:
    while True:
        main = draw_entity(domain, names, rng)
        rival = draw_entity(domain, names, rng, unlike=main)
        prose = Prose(names, rng)
        for clauses, joiner in _plan(main, rival, rng):
            prose.sentence(clauses, joiner)
        if WORDS[0] <= len(prose.text.split()) <= WORDS[1]:
            return Passage(prose.text, (main, rival), tuple(prose.facts))


def _plan(main: Entity, rival: Entity, rng: Random) -> list[Sentence]:
    """The sentences of a passage: the rival's stand together somewhere among the main entity's."""
    domain = main.domain
    order = rng.sample(domain.attributes, len(domain.attributes))
    n_main, n_rival, n_shared = rng.randint(4, 5), rng.randint(2, 3), rng.randint(0, 1)
    n_contrasted = rng.randint(0, n_shared)
    about_main, about_rival, contrasts = [], [], []
    for index, attribute in enumerate(order[: n_main + n_rival - n_shared]):
        first, second = rng.sample(attribute.says, 2)
        pair = [Clause(first, main, attribute), Clause(second, rival, attribute)]
        if index < n_contrasted:
            contrasts.append((rng.sample(pair, 2), rng.choice(_CONTRAST)))
            continue
        if index < n_main:
            about_main.append(pair[0])
        if index < n_shared or index >= n_main:
            about_rival.append(pair[1])
    link = Clause(rng.choice(domain.links), rival, other=main)
    aside = [([link], ""), *group_clauses(about_rival, rng), *contrasts]
    body = group_clauses(about_main, rng)
    intro = Clause(rng.choice(domain.intros), main)
    opening = [([intro], "")] if rng.random() < INTRODUCED else [body.pop()]
    cut = rng.randint(0, len(body))
    return [*opening, *body[:cut], *aside, *body[cut:]]


def group_clauses(clauses: list[Clause], rng: Random) -> list[Sentence]:
    """Clauses on one entity in any order, one or two to a sentence."""
    clauses = rng.sample(clauses, len(clauses))
    sentences: list[Sentence] = []
    while clauses:
        size = 2 if rng.random() < 0.3 else 1
        sentences.append((clauses[:size], rng.choice(_SAME_TOPIC)))
        clauses = clauses[size:]
    return sentences


def _questions(passage: Passage, rng: Random) -> tuple[Question, ...]:
    """Different questions; whether one can be answered is decided before what it asks for."""
    facts = {(fact.entity.name, fact.label): fact for fact in passage.facts}
    questions: dict[tuple[str, str], Question] = {}
    while len(questions) < QUESTIONS:
        about_main = rng.random() < ABOUT_MAIN
        entity, other = passage.entities if about_main else passage.entities[::-1]
        unanswerable = rng.random() < UNANSWERABLE
        swapped = rng.random() < SWAPPED
        pool = [
            attribute
            for attribute in entity.domain.attributes
            if ((entity.name, attribute.label) not in facts) == unanswerable
            and (((other.name, attribute.label) in facts) == swapped or not unanswerable)
            and (entity.name, attribute.label) not in questions
        ]
        if pool:
            attribute = rng.choice(pool)
            key = entity.name, attribute.label
            text = rng.choice(attribute.asks).replace("{e}", entity.name)
            questions[key] = Question(text, entity, attribute, facts.get(key))
    return tuple(questions.values())


def _article_json(article: Article, article_id: str) -> dict[str, Any]:
    return {
        "title": article.title,
        "paragraphs": [
            {
                "context": passage.text,
                "qas": [
                    _question_json(question, passage.text, f"{article_id}-{p}-{q}")
                    for q, question in enumerate(questions)
                ],
            }
            for p, (passage, questions) in enumerate(article.passages)
        ],
    }


def _question_json(question: Question, context: str, question_id: str) -> dict[str, Any]:
    fact = question.fact
    answers = []
    if fact is not None:
        answers.append({"text": context[fact.start : fact.end], "answer_start": fact.start})
    return {
        "id": question_id,
        "question": question.text,
        "answers": answers,
        "is_impossible": fact is None,
    }
