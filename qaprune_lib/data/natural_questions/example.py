"""An example of Natural Questions, and what there is to learn from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple

YesNo = Literal["YES", "NO", "NONE"]


class Span(NamedTuple):
    """Tokens of the document, from ``start`` to before ``end``."""

    start: int
    end: int


class Candidate(NamedTuple):
    """A paragraph, table or list that may be the long answer; nested ones are not top-level."""

    start: int
    end: int
    top_level: bool


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotator's answer: none if ``long`` is None; ``short`` or ``yes_no``, never both."""

    long: Span | None
    short: tuple[Span, ...] = ()
    yes_no: YesNo = "NONE"


@dataclass(frozen=True, slots=True)
class Example:
    """A question and a Wikipedia page; ``text`` has the page's tokens with one blank between.

    Some tokens are HTML tags. Every span counts in these tokens, as in the official simplified
    format (Kwiatkowski et al. 2019). ``html`` are the places of the tags, in order, where the
    source says which these are (``html_token`` of the original format); else it is None, and tags
    are what looks like one.
    """

    id: int
    question: str
    text: str
    candidates: tuple[Candidate, ...]
    annotations: tuple[Annotation, ...]
    html: tuple[int, ...] | None = None

    @property
    def tokens(self) -> list[str]:
        """The document's tokens."""
        return self.text.split(" ")

    @property
    def page(self) -> Page:
        """The page alone, as a key."""
        return Page(self.text, self.candidates, self.html)


class Page(NamedTuple):
    """What of an example makes its windows, besides the question."""

    text: str
    candidates: tuple[Candidate, ...]
    html: tuple[int, ...] | None = None

    def passages(self) -> Iterator[tuple[Span, list[str]]]:
        """The top-level candidates, each with its tokens that are no tags."""
        tokens = self.text.split(" ")
        look_like_tags = (at for at, token in enumerate(tokens) if tag_name(token))
        tags = set(look_like_tags if self.html is None else self.html)
        for start, end, top_level in self.candidates:
            if top_level:
                yield Span(start, end), [tokens[at] for at in range(start, end) if at not in tags]


class AnswerType(IntEnum):
    """What a window answers (Alberti et al. 2019); the classes of an answer-type head."""

    NULL = 0
    SHORT = 1
    LONG = 2
    YES = 3
    NO = 4


_TAG = re.compile(r"</?([A-Z][A-Za-z0-9]*)(?:[^A-Za-z0-9>][^>]*)?>")


def tag_name(token: str) -> str | None:
    """The name, such as Table, of a token that is an HTML tag (``</Table>``); else None.

    The simplified format has no other sign of which tokens are tags. In the original one tags need
    not look like one: what `Example.html` names is one in any case.
    """
    match = _TAG.fullmatch(token) if token.startswith("<") else None
    return match.group(1) if match else None


def target(example: Example) -> tuple[AnswerType, Span | None]:
    """What a model learns for an example: the type of answer and its document tokens.

    The first annotation with short answers counts, from the first to the last of them; else the
    first one with a long answer, whose whole candidate is the span (Alberti et al. 2019). A nested
    candidate is out of reach, so that a plain long answer there counts as none.
    """
    answered = [annotation for annotation in example.annotations if annotation.long]
    for annotation in answered:
        if annotation.short:
            starts, ends = zip(*annotation.short, strict=True)
            return AnswerType.SHORT, Span(min(starts), max(ends))
    top_level = {candidate[:2] for candidate in example.candidates if candidate.top_level}
    for annotation in answered:
        if annotation.yes_no != "NONE":
            return AnswerType[annotation.yes_no], annotation.long
        if annotation.long in top_level:
            return AnswerType.LONG, annotation.long
    return AnswerType.NULL, None
