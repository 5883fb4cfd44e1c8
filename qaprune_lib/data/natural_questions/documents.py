"""Pages of Natural Questions on their way into windows: places are tokens of the document.

As Alberti et al. (2019): a page is the text of its top-level candidates, each led by a markup token
for its kind and number, such as ``[Table=2]``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from qaprune_lib.data.natural_questions.example import Example, Page, tag_name, target
from qaprune_lib.data.natural_questions.stream import NaturalQuestions
from qaprune_lib.data.tokens import Tokens, read_texts
from qaprune_lib.data.windows import Asked, Task, Windows
from qaprune_lib.errors import SettingsError

_KINDS = {"P": "Paragraph", "Table": "Table", "Ul": "List", "Ol": "List", "Dl": "List"}
_LARGEST_NUMBER = 50
MARKUP = tuple(
    f"[{kind}={number}]"
    for kind in (*dict.fromkeys(_KINDS.values()), "Other")
    for number in range(1, _LARGEST_NUMBER + 1)
)
_BATCH_CHARACTERS, _BATCH_EXAMPLES = 1_000_000, 1000


def read_pages(backend: Tokenizer, pages: Sequence[Page]) -> list[Tokens]:
    """The tokens of each page: places are those of the document's tokens, -1 at markup.

    Raises:
        SettingsError: the tokenizer has no ids for the markup tokens.
    """
    markup = dict(zip(MARKUP, markup_ids(backend), strict=True))
    passages = [_passages(page) for page in pages]
    located = read_texts(backend, (passage.text for page in passages for passage in page))
    found = []
    for page in passages:
        ids: list[np.ndarray] = [np.empty(0, np.int32)]
        places: list[np.ndarray] = [np.empty(0, np.int32)]
        for passage in page:
            tokens = located[passage.text]
            if len(tokens.ids):
                at = np.searchsorted(passage.starts, tokens.start, side="right") - 1
                ids += [np.array([markup[passage.markup]], np.int32), tokens.ids]
                places += [np.array([-1], np.int32), passage.places[at]]
        start = np.concatenate(places)
        found.append(Tokens(np.concatenate(ids), start, start + 1))
    return found


def markup_ids(backend: Tokenizer) -> list[int]:
    """The id of each token of `MARKUP`: its own, or that of an unused entry of the vocabulary."""
    unused = [f"[unused{number}]" for number in range(1, len(MARKUP) + 1)]
    for tokens in (MARKUP, unused):
        ids = [i for token in tokens if (i := backend.token_to_id(token)) is not None]
        if len(ids) == len(MARKUP):
            return ids
    raise SettingsError(
        f"the tokenizer has no ids for the {len(MARKUP)} markup tokens ({MARKUP[0]}, ...) and no "
        f"[unused] entries to take: tokenizer.add_tokens(list(MARKUP)), with MARKUP from "
        f"{__name__}, then model.resize_token_embeddings(len(tokenizer))"
    )


class _Passage(NamedTuple):
    """A candidate's text, and of each of its tokens the place in the document and in the text."""

    markup: str
    text: str
    places: np.ndarray
    starts: np.ndarray


def _passages(page: Page) -> list[_Passage]:
    """The top-level candidates that have text, numbered by kind."""
    text, candidates, html = page
    passages = []
    counts: dict[str, int] = {}
    # whole arrays of places, as pages have many tokens for each tag
    codes = np.frombuffer(f"{text} ".encode("utf-32-le"), np.uint32)
    ends = np.flatnonzero(codes == ord(" "))
    begins = np.append(0, ends[:-1] + 1)
    if html is None:
        angled = np.flatnonzero(codes[begins] == ord("<")).tolist()
        tags = [place for place in angled if tag_name(text[begins[place] : ends[place]])]
    else:
        tags = list(html)
    is_text = np.ones(len(begins), bool)
    is_text[tags] = False
    for start, end, _ in sorted(candidate for candidate in candidates if candidate.top_level):
        around = [start - 1, *tags[bisect_left(tags, start) : bisect_left(tags, end)], end]
        inside = " ".join(
            text[begins[before + 1] : ends[after - 1]]
            for before, after in pairwise(around)
            if before + 1 < after
        )
        if inside.strip():
            name = None if is_text[start] else tag_name(text[begins[start] : ends[start]])
            kind = _KINDS.get(name or "", "Other")
            counts[kind] = min(counts.get(kind, 0) + 1, _LARGEST_NUMBER)
            places = start + np.flatnonzero(is_text[start:end])
            widths = ends[places] + 1 - begins[places]
            passages.append(
                _Passage(
                    f"[{kind}={counts[kind]}]",
                    inside,
                    places.astype(np.int32),
                    np.cumsum(widths) - widths,
                )
            )
    return passages


def _batches(data: Iterable[Example]) -> Iterator[tuple[int, list[Example]]]:
    """Examples whose distinct pages are short enough together to be tokenised at once."""
    batch: list[Example] = []
    n_characters = 0
    for example in data:
        batch.append(example)
        if len(batch) == 1 or example.text != batch[-2].text:
            n_characters += len(example.text)
        if n_characters >= _BATCH_CHARACTERS or len(batch) == _BATCH_EXAMPLES:
            yield len(batch), batch
            batch, n_characters = [], 0
    if batch:
        yield len(batch), batch


def _reader(backend: Tokenizer) -> Callable[[Sequence[Example]], Iterator[Asked]]:
    markup_ids(backend)  # an error before anything is read

    def read(examples: Sequence[Example]) -> Iterator[Asked]:
        # Questions on the same page often follow each other.
        distinct = list(dict.fromkeys(example.page for example in examples))
        documents = dict(zip(distinct, read_pages(backend, distinct), strict=True))
        questions = backend.encode_batch([example.question for example in examples])
        for example, question in zip(examples, questions, strict=True):
            answer_type, span = target(example)
            yield Asked(
                name=f"example {example.id}",
                question=question.ids,
                context=documents[example.page],
                answer=span,
                answer_type=int(answer_type),
                draw=example.id % 2**64 if example.annotations else None,
            )

    return read


def _some(data: NaturalQuestions, count: int) -> NaturalQuestions:
    total = sum(1 for _ in data)
    return data if count >= total else data.sample(count / total)


NATURAL_QUESTIONS = Task(
    name="natural_questions",
    windows=Windows(512, null_rate=0.02),
    token_columns={"document_token": "start"},
    has_types=True,
    digest=NaturalQuestions.digest,
    batches=_batches,
    reader=_reader,
    some=_some,
    held=list,
)
