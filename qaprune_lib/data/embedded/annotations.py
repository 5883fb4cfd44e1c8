"""The embedded corpus in the form of Natural Questions, for work without a network.

One question in two has no answer on its page. Of the others most have a short answer, in a
paragraph, the table or the list; some ask what is known of a thing, which a paragraph as a whole
answers, and some whether a value is right, which yes or no answers. The annotators of a dev page do
not always agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from random import Random
from typing import Any

from qaprune_lib.data.embedded.pages import Page, PageQuestion, Span, generate_pages
from qaprune_lib.errors import SettingsError

PAGES: dict[str, int] = {"train": 600, "dev": 60}
ANNOTATORS = {"train": 1, "dev": 5}
AGREEING = {5: 0.6, 4: 0.25, 3: 0.1, 2: 0.05}  # of five, who find the answer
LONG_ALONE = 0.1  # of these, who give no short answer
OVERZEALOUS = 0.15  # of the questions without an answer have an annotator who gives one

_NULL = {"start_token": -1, "end_token": -1}
Raw = Mapping[str, Any]


@dataclass(frozen=True)
class EmbeddedPages:
    """A split of the corpus, as raw examples of Natural Questions; deterministic in the seed.

    Raises:
        SettingsError: a split that does not exist.
    """

    split: str
    seed: int = 0
    pages: int | None = None

    def __post_init__(self) -> None:
        if self.split not in PAGES:
            raise SettingsError(f"split {self.split!r} does not exist: there are {list(PAGES)}")

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"embedded {self.split}"

    def raw_examples(self) -> Iterator[tuple[str, Raw]]:
        """Examples in the simplified format, each with its place."""
        yield from _generated(self)

    def digest(self) -> str:
        """SHA-256 (hex) of all examples."""
        return _digest(self)


@lru_cache(maxsize=4)
def _generated(pages: EmbeddedPages) -> list[tuple[str, Raw]]:
    """All examples, made once in a process: a run reads them many times."""
    count = PAGES[pages.split] if pages.pages is None else pages.pages
    rng = Random(f"annotations {pages.split} {pages.seed}")
    identity = list(PAGES).index(pages.split) * 10**6
    made: list[tuple[str, Raw]] = []
    for number, (page, questions) in enumerate(
        islice(generate_pages(pages.split, pages.seed), count)
    ):
        for question in questions:
            identity += 1
            row = _example(identity, page, question, ANNOTATORS[pages.split], rng)
            made.append((f"{pages.name}: page {number}", row))
    return made


@lru_cache
def _digest(pages: EmbeddedPages) -> str:
    digest = hashlib.sha256()
    for _, raw in pages.raw_examples():
        digest.update(json.dumps(raw).encode())
    return digest.hexdigest()


def _example(
    identity: int, page: Page, question: PageQuestion, n_annotators: int, rng: Random
) -> Raw:
    annotations = [_annotation(page, question.block, question.short, question.yes_no)]
    if n_annotators > 1:
        annotations = _annotations(page, question, n_annotators, rng)
    return {
        "example_id": identity,
        "question_text": question.text,
        "document_text": " ".join(page.tokens),
        "long_answer_candidates": [
            {"start_token": start, "end_token": end, "top_level": top_level}
            for (start, end), top_level in page.candidates
        ],
        "annotations": annotations,
    }


def _annotations(page: Page, question: PageQuestion, count: int, rng: Random) -> list[Raw]:
    """Of several annotators, who do not always agree."""
    null = _annotation(page, None, None, "NONE")
    if question.block is None:
        blocks = [place for place, (_, top_level) in enumerate(page.candidates) if top_level]
        found = [_annotation(page, rng.choice(blocks), None, "NONE")]
        found = found if rng.random() < OVERZEALOUS else []
    else:
        answer = _annotation(page, question.block, question.short, question.yes_no)
        vague = _annotation(page, question.block, None, "NONE")
        found = [
            vague if rng.random() < LONG_ALONE else answer
            for _ in range(rng.choices(list(AGREEING), list(AGREEING.values()))[0])
        ]
    return rng.sample([*found, *[null] * (count - len(found))], count)


def _annotation(page: Page, block: int | None, short: Span | None, yes_no: str) -> Raw:
    def tokens(span: Span) -> dict[str, int]:
        return {"start_token": span[0], "end_token": span[1]}

    long = _NULL if block is None else tokens(page.candidates[block][0])
    return {
        "long_answer": {**long, "candidate_index": -1 if block is None else block},
        "short_answers": [] if short is None else [tokens(short)],
        "yes_no_answer": yes_no,
    }
