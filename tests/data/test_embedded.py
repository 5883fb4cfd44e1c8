"""The embedded corpus is well formed, and neither word overlap nor the question alone solves it."""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from qaprune_lib.data.embedded.articles import generate_articles, generate_squad
from qaprune_lib.data.embedded.domains import load_domains
from qaprune_lib.errors import SettingsError

Corpus = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One question with its passage; ``answer`` is empty where there is none."""

    id: str
    context: str
    question: str
    answer: str
    start: int


def rows(split: dict[str, Any]) -> Iterator[Row]:
    for article in split["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                assert qa["is_impossible"] == (qa["answers"] == [])
                answer = (qa["answers"] or [{"text": "", "answer_start": -1}])[0]
                yield Row(
                    qa["id"],
                    paragraph["context"],
                    qa["question"],
                    answer["text"],
                    answer["answer_start"],
                )


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return generate_squad()


@pytest.fixture(scope="module")
def train(corpus: Corpus) -> list[Row]:
    return list(rows(corpus["train"]))


@pytest.fixture(scope="module")
def dev(corpus: Corpus) -> list[Row]:
    return list(rows(corpus["dev"]))


# --- form ------------------------------------------------------------------------------------


def test_sizes_and_time() -> None:
    began = time.process_time()
    corpus = generate_squad()
    assert time.process_time() - began < 3
    assert 4000 <= len(list(rows(corpus["train"]))) <= 5000
    assert 600 <= len(list(rows(corpus["dev"]))) <= 1000


def test_deterministic_in_the_seed(corpus: Corpus) -> None:
    small = {"train": 20, "dev": 3}
    assert generate_squad(1, small) == generate_squad(1, small)
    assert generate_squad(1, small) != generate_squad(2, small)
    first = generate_squad(0, small)
    assert all(corpus[split]["data"][:n] == first[split]["data"] for split, n in small.items())


def test_other_splits_are_refused() -> None:
    with pytest.raises(SettingsError, match="'test' does not exist"):
        generate_squad(0, {"test": 1})


def test_ids_and_titles_are_unique_and_answers_stand_where_they_say(
    corpus: Corpus, train: list[Row], dev: list[Row]
) -> None:
    ids = [row.id for row in train + dev]
    assert len(set(ids)) == len(ids)
    titles = [article["title"] for split in corpus.values() for article in split["data"]]
    assert len(set(titles)) == len(titles)
    for row in train + dev:
        assert row.context[row.start : row.start + len(row.answer)] == row.answer or not row.answer
        assert re.fullmatch(r"[A-Z].*\?", row.question)


def test_passages_are_clean_prose_of_60_to_140_words(train: list[Row], dev: list[Row]) -> None:
    slip = re.compile(r"[{}]|  | [.,;]|\.\.|s's\b|\ba [aeiou]|\ban [^aeiou]|(\w)\1\1[a-z]")
    for context in {row.context for row in train + dev}:
        assert 60 <= len(context.split()) <= 140
        assert not slip.search(context), context
        assert all(re.match(r"[A-Z0-9]", s) for s in sentences(context)), context
        assert all(1600 < int(year) < 2020 for year in re.findall(r"\bin (\d{4})\b", context))


def test_no_name_is_in_both_splits() -> None:
    names = {
        split: {
            entity.name
            for article in generate_articles(split, count)
            for passage, _ in article.passages
            for entity in passage.entities
        }
        for split, count in (("train", 320), ("dev", 48))
    }
    assert len(names["train"]) > 1500
    assert not names["train"] & names["dev"]


def test_values_of_persons_and_places_are_new_in_dev(train: list[Row], dev: list[Row]) -> None:
    seen = {row.answer for row in train}
    names = {row.answer for row in dev if re.fullmatch(r"([A-Z]\w+ ?)+", row.answer)}
    assert len(names) > 100
    assert len(names & seen) / len(names) < 0.05


def test_domains_have_several_phrasings_of_everything() -> None:
    domains = load_domains()
    assert len(domains) >= 12
    for domain in domains:
        for attribute in domain.attributes:
            where = f"{domain.name}: {attribute.label}"
            assert min(len(attribute.says), len(attribute.asks)) >= 3, where
            for text in attribute.says:
                assert text.count("{v}") == 1, where
                assert sum(text.count(slot) for slot in ("{e}", "{es}", "{o}", "{n}")) == 1, where
            assert all(text.count("{e}") == 1 for text in attribute.asks), where


def test_every_stated_value_is_marked() -> None:
    for article in generate_articles("dev", 16):
        for passage, questions in article.passages:
            for fact in passage.facts:
                text = passage.text[fact.start : fact.end]
                assert text.lower() == fact.entity.values[fact.label].lower()
            stated = {(fact.entity.name, fact.label) for fact in passage.facts}
            for question in questions:
                key = (question.entity.name, question.attribute.label)
                assert (question.fact is not None) == (key in stated)
                assert question.entity.name in question.text


# --- what gives nothing away -----------------------------------------------------------------


def test_a_third_is_unanswerable_and_answers_stand_everywhere(train: list[Row]) -> None:
    assert 0.28 <= sum(not row.answer for row in train) / len(train) <= 0.40
    places = Counter(int(4 * r.start / len(r.context)) for r in train if r.answer)
    answerable = sum(places.values())
    assert all(0.12 < places[quarter] / answerable < 0.4 for quarter in range(4)), places


def test_answers_are_of_many_types(train: list[Row]) -> None:
    patterns = {
        "date": r"\d+ [A-Z][a-z]+ \d{4}",
        "year": r"\d{4}",
        "quantity": r"([\d,]+|[a-z]+) (metres|miles|days|hours|kilograms|pounds|grams|feet)",
        "count": r"\d{1,3}(,\d{3})*",
        "name": r"([A-Z]\w+ ?){2,}",
        "place": r"[A-Z][a-z]+",
        "phrase": r"[a-z]+( [a-z]+)+",
    }
    answers = [row.answer for row in train if row.answer]
    for name, pattern in patterns.items():
        share = sum(bool(re.fullmatch(pattern, answer)) for answer in answers) / len(answers)
        assert 0.02 < share < 0.4, (name, share)


def test_the_question_alone_does_not_tell_whether_there_is_an_answer(
    train: list[Row], dev: list[Row]
) -> None:
    """The wording with the name taken out predicts no better than the majority."""

    def wording(question: str) -> str:
        head, tail = question.split(" ", 1)
        return head + re.sub(r"\b(the )?[A-Z]\w+( [A-Z]\w+| of| and)*", "X", " " + tail)

    answered: dict[str, Counter[bool]] = defaultdict(Counter)
    for row in train:
        answered[wording(row.question)][bool(row.answer)] += 1
    frequent = [count for count in answered.values() if count.total() >= 10]
    assert len(frequent) > 100
    assert (
        sum(min(count.values()) > 0 and len(count) == 2 for count in frequent) / len(frequent)
        > 0.97
    )
    guesses = [answered[wording(row.question)] for row in dev]
    right = sum(
        (guess[True] >= guess[False]) == bool(row.answer)
        for guess, row in zip(guesses, dev, strict=True)
    )
    majority = sum(bool(row.answer) for row in dev)
    assert right / len(dev) < majority / len(dev) + 0.05


# --- the heuristic: best-overlap sentence, nearest span of the asked type ---------------------

STOP = (
    "a an the of in on at to by is was were did do does has have from for and what which who whom"
    " whose when where how it its he his him she her that with are be been as"
)
MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
UNITS = (
    "metres|miles|kilometres|feet|pounds|grams|kilograms|hours|days|minutes|pairs|languages"
    "|million dollars"
)
SPANS = {
    "date": rf"\b(?:\d{{1,2}} (?:{MONTH}) )?\d{{4}}\b(?!,)",
    "number": rf"\b(?:\d[\d,]*\d|\d|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b"
    rf"(?: (?:{UNITS}))?",
    "name": r"\b[A-Z]\w+(?: (?:[A-Z]\w+))*",
    "thing": r"\b[A-Z]\w+(?: (?:[A-Z]\w+))*|[a-z]+ [a-z]+(?=[.,;]|$)",
}
ASKED = (
    (r"^when|\b(what|which) year|what date|which day|date of|season", "date"),
    (r"^how (many|much|long|tall|high|far|deep|large|heavy|big|thick|popular|common)", "number"),
    (r"\b(height|length|weight|number|price|capacity|size|toll|distance|duration)\b", "number"),
    (r"^(who|whom|whose|where|by whom|to whom)\b|\b(town|place|port|city|ship)\b", "name"),
)


def sentences(context: str) -> list[str]:
    return re.split(r"(?<=\.) (?=[A-Z0-9])", context)


def words(text: str) -> set[str]:
    found = re.findall(r"\w+", text.lower())
    return {re.sub(r"(ing|ed|es|s|d)$", "", word) for word in found if word not in STOP.split()}


def asked_type(question: str) -> str:
    return next((kind for p, kind in ASKED if re.search(p, question, re.I)), "thing")


def guess(row: Row) -> tuple[str, float]:
    """The heuristic's answer, and the share of the question's words in its sentence."""
    wanted = words(row.question)
    pattern = re.compile(SPANS[asked_type(row.question)])
    best = ("", -1.0)
    for sentence in sentences(row.context):
        spans = [
            m
            for m in pattern.finditer(sentence)
            if m[0] not in row.question and not (m.start() == 0 and " " not in m[0])
        ]
        overlap = len(wanted & words(sentence)) / len(wanted)
        if spans and overlap > best[1]:
            cues = [m.start() for m in re.finditer(r"\w+", sentence) if words(m[0]) & wanted]
            middle = sum(cues) / len(cues) if cues else len(sentence) / 2
            nearest = min(spans, key=lambda m: abs((m.start() + m.end()) / 2 - middle))
            best = (nearest[0], overlap)
    return best


def normalise(text: str) -> list[str]:
    text = re.sub(r"[^\w\s]|_", "", text.lower())
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def f1(prediction: str, gold: str) -> float:
    """SQuAD's token F1 of one prediction."""
    predicted, expected = normalise(prediction), normalise(gold)
    common = (Counter(predicted) & Counter(expected)).total()
    if not predicted or not expected:
        return float(predicted == expected)
    return 2 * common / (len(predicted) + len(expected))


def best_f1(dev: list[Row], answer: Callable[[Row], tuple[str, float]]) -> float:
    """SQuAD 2.0 F1 in percent at the best threshold on the score of an answer."""
    scored = sorted(((answer(row), row) for row in dev), key=lambda pair: -pair[0][1])
    total = best = float(sum(not row.answer for row in dev))
    for (text, _), row in scored:
        total += f1(text, row.answer) if row.answer else -1.0
        best = max(best, total)
    return 100 * best / len(dev)


@pytest.mark.slow
def test_word_overlap_does_not_solve_it(train: list[Row], dev: list[Row]) -> None:
    null = 100 * sum(not row.answer for row in dev) / len(dev)
    assert best_f1(dev, lambda row: ("", 0.0)) == pytest.approx(null)
    assert best_f1(dev, lambda row: (row.answer, float(bool(row.answer)))) == pytest.approx(100)
    for split in (dev, train):
        assert best_f1(split, guess) < 45
