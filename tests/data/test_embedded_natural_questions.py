"""The generated pages are good Natural Questions, and words alone do not solve them."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice

import pytest

from qaprune_lib.data.embedded.annotations import EmbeddedPages
from qaprune_lib.data.embedded.pages import generate_pages
from qaprune_lib.data.natural_questions.example import (
    AnswerType,
    Example,
    tag_name,
    target,
)
from qaprune_lib.data.natural_questions.stream import NaturalQuestions, load_natural_questions
from qaprune_lib.errors import SettingsError
from qaprune_lib.evaluation.natural_questions import (
    NaturalQuestionsPrediction,
    score_natural_questions,
    word_overlap,
)


@pytest.fixture(scope="module")
def train() -> list[Example]:
    return list(NaturalQuestions(EmbeddedPages("train", pages=150)))


@pytest.fixture(scope="module")
def dev() -> list[Example]:
    return list(load_natural_questions("embedded")["dev"])


@pytest.mark.slow
def test_sizes_and_order(train: list[Example], dev: list[Example]) -> None:
    splits = load_natural_questions("embedded")
    assert list(splits) == ["train", "dev"]
    assert len(dev) == 240
    assert len({example.id for example in train + dev}) == 600 + 240
    assert [e for e, _ in zip(splits["train"], range(600), strict=False)] == train
    assert {len(example.annotations) for example in train} == {1}
    assert {len(example.annotations) for example in dev} == {5}


def test_deterministic_in_the_seed() -> None:
    def rows(seed: int) -> list[object]:
        return [raw for _, raw in EmbeddedPages("dev", seed, pages=3).raw_examples()]

    assert rows(1) == rows(1) != rows(2)
    digests = {EmbeddedPages("dev", seed, pages=n).digest() for seed in (0, 1) for n in (2, 3)}
    assert len(digests) == 4
    assert EmbeddedPages("dev", 0, pages=2).digest() in digests
    with pytest.raises(SettingsError, match="'test' does not exist"):
        EmbeddedPages("test")


def test_pages_have_paragraphs_a_table_and_a_list(train: list[Example]) -> None:
    for example in train[::4]:
        tokens = example.tokens
        tags = Counter(tag_name(tokens[start]) for start, _, top in example.candidates if top)
        assert tags["Table"] == tags["Ul"] == 1
        assert 5 <= tags["P"] <= 8
        assert tokens[0] == "<H1>"
        assert 250 < len(tokens) < 700
        nested = [c for c in example.candidates if not c.top_level]
        assert {tag_name(tokens[c.start]) for c in nested} == {"Tr", "Li"}
        stack: list[str] = []
        for token in tokens:  # tags are balanced
            name = tag_name(token)
            if name and token.startswith("</"):
                assert stack.pop() == name
            elif name:
                stack.append(name)
        assert not stack


def test_one_in_two_has_no_answer_and_all_types_occur(
    train: list[Example], dev: list[Example]
) -> None:
    types = Counter(target(example)[0] for example in train)
    assert 0.45 < types[AnswerType.NULL] / len(train) < 0.55
    assert 0.3 < types[AnswerType.SHORT] / len(train) < 0.45
    assert all(types[kind] / len(train) > 0.01 for kind in AnswerType)
    holders = Counter()
    for example in train:
        for annotation in example.annotations:
            if annotation.short and annotation.long:
                holders[tag_name(example.tokens[annotation.long.start])] += 1
    assert all(holders[tag] / holders.total() > 0.1 for tag in ("P", "Table", "Ul"))
    answered = sum(sum(a.long is not None for a in example.annotations) >= 2 for example in dev)
    assert 0.4 < answered / len(dev) < 0.6
    one_of_five = [e for e in dev if sum(a.long is not None for a in e.annotations) == 1]
    assert one_of_five


def test_short_answers_are_the_values_that_are_stated() -> None:
    for split in ("train", "dev"):
        for page, questions in islice(generate_pages(split), 40):
            for fact in page.facts:
                stated = " ".join(page.tokens[slice(*fact.span)])
                value = fact.entity.values[fact.label]
                assert re.sub(r"\W", "", stated).lower() == re.sub(r"\W", "", value).lower()
            for question in questions:
                if question.short is not None:
                    assert question.block is not None
                    (start, end), top_level = page.candidates[question.block]
                    assert top_level
                    assert start < question.short[0] < question.short[1] < end
                    (fact,) = {f.label: f for f in page.facts if f.span == question.short}.values()
                    assert fact.entity.name in question.text


def test_no_name_is_in_both_splits() -> None:
    names = {
        split: {e.name for page, _ in islice(generate_pages(split), 100) for e in page.entities}
        for split in ("train", "dev")
    }
    assert not names["train"] & names["dev"]


@pytest.mark.slow
def test_the_form_of_a_question_does_not_tell_whether_there_is_an_answer() -> None:
    """Of the questions for a value, with names and values taken out."""
    answered: dict[str, Counter[bool]] = {}
    for example in load_natural_questions("embedded")["train"]:
        head, tail = example.question.split(" ", 1)
        form = head + re.sub(r"\b[A-Z]\w+( [A-Z]\w+)*", "X", " " + tail)
        has_answer = target(example)[0] is not AnswerType.NULL
        answered.setdefault(form, Counter())[has_answer] += 1
    frequent = [count for count in answered.values() if count.total() >= 8]
    assert len(frequent) > 20
    assert sum(len(count) == 2 for count in frequent) / len(frequent) > 0.95


def test_words_alone_do_not_solve_it_and_an_oracle_does(dev: list[Example]) -> None:
    pytest.importorskip("natural_questions", reason="the extra nq is not installed")
    overlap = score_natural_questions(dev, map(word_overlap, dev))
    assert overlap.long.f1 < 65  # it finds the paragraph of a name, but not whether it answers
    assert overlap.short.f1 == 0

    def oracle(example: Example) -> NaturalQuestionsPrediction:
        answered = [a for a in example.annotations if a.long]
        if len(answered) < 2:
            return NaturalQuestionsPrediction(example.id, None, 0.0)
        best = max(answered, key=lambda a: (bool(a.short), a.yes_no != "NONE"))
        score = 1.0 + sum(bool(a.short) or a.yes_no != "NONE" for a in answered)
        short_score = score if score > 2 else 0.0
        return NaturalQuestionsPrediction(
            example.id, best.long, score, best.short, best.yes_no, short_score
        )

    best = score_natural_questions(dev, map(oracle, dev))
    assert best.long.f1 == 100
    assert best.short.f1 == 100
    assert best.long.n_gold > best.short.n_gold > 60
