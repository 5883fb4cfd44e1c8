"""Examples of Natural Questions as windows of tokens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Features, List, Value
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from qaprune_lib.data.natural_questions_example import (
    AnswerType,
    Candidate,
    Example,
    tag_name,
    target,
)
from qaprune_lib.data.offsets import trim_tokens
from qaprune_lib.data.windows import split_tokenizer, tokenizer_state
from qaprune_lib.errors import DataError, SettingsError

WINDOW_FEATURES = Features(
    {
        "example_index": Value("int32"),
        "input_ids": List(Value("int32")),
        "token_type_ids": List(Value("int8")),
        "context_start": Value("int32"),
        "document_token": List(Value("int32")),
        "start_position": Value("int32"),
        "end_position": Value("int32"),
        "answer_type": Value("int8"),
        "length": Value("int32"),
    }
)
_KINDS = {"P": "Paragraph", "Table": "Table", "Ul": "List", "Ol": "List", "Dl": "List"}
_LARGEST_NUMBER = 50
MARKUP = tuple(
    f"[{kind}={number}]"
    for kind in (*dict.fromkeys(_KINDS.values()), "Other")
    for number in range(1, _LARGEST_NUMBER + 1)
)
_BATCH_CHARACTERS, _BATCH_EXAMPLES = 1_000_000, 1000


@dataclass(frozen=True)
class NaturalQuestionsSettings:
    """Sizes in tokens, the share of null windows that stays, and the seed that draws them."""

    max_length: int = 512
    doc_stride: int = 128
    max_question_length: int = 64
    null_rate: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = ("max_length", "doc_stride", "max_question_length")
        for name, value in asdict(self).items():
            least = 1 if name in sizes else 0
            is_whole = isinstance(value, int) and not isinstance(value, bool)
            if name != "null_rate" and not (is_whole and value >= least):
                raise SettingsError(f"{name}={value!r} must be an integer of at least {least}")
        if not 0 <= self.null_rate <= 1:
            raise SettingsError(f"null_rate={self.null_rate} is not a share: it must lie in [0, 1]")


@dataclass(frozen=True)
class Document:
    """Ids of the tokens, markup included, and the document's token each is part of (-1: markup)."""

    ids: np.ndarray
    source: np.ndarray


class _Passage(NamedTuple):
    """A candidate's text, and of each of its tokens the place in the document and in the text."""

    markup: str
    text: str
    places: np.ndarray
    starts: np.ndarray


def markup_ids(backend: Tokenizer) -> list[int]:
    """The id of each token of `MARKUP`: its own, or that of an unused entry of the vocabulary."""
    vocabulary = backend.get_vocab()
    if all(token in vocabulary for token in MARKUP):
        return [vocabulary[token] for token in MARKUP]
    unused = [f"[unused{number}]" for number in range(1, len(MARKUP) + 1)]
    if all(token in vocabulary for token in unused):
        return [vocabulary[token] for token in unused]
    raise SettingsError(
        f"the tokenizer has no ids for the {len(MARKUP)} markup tokens ({MARKUP[0]}, ...) and no "
        f"[unused] entries to take: tokenizer.add_tokens(list(MARKUP)), with MARKUP from "
        f"{__name__}, then model.resize_token_embeddings(len(tokenizer))"
    )


class NaturalQuestionsCutter:
    """Turns examples into the rows of `make_natural_questions_features`."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, settings: NaturalQuestionsSettings
    ) -> None:
        self.settings = settings
        has_types = "token_type_ids" in tokenizer.model_input_names
        self.backend, self.layout = split_tokenizer(tokenizer_state(tokenizer), has_types)
        self.markup = dict(zip(MARKUP, markup_ids(self.backend), strict=True))

    def __call__(self, examples: Iterable[Example]) -> Iterator[pa.Table]:
        """Tables of windows; each example's number is its place in ``examples``."""
        first = 0
        for batch in _batches(examples):
            rows = self._windows(first, batch)
            first += len(batch)
            if rows.scalars:
                yield rows.table()

    def _windows(self, first: int, examples: Sequence[Example]) -> _Rows:
        # Questions on the same page often follow each other.
        pages = list(dict.fromkeys((example.text, example.candidates) for example in examples))
        documents = dict(zip(pages, self.documents(pages), strict=True))
        questions = self.backend.encode_batch([example.question for example in examples])
        rows = _Rows()
        for index, (example, encoding) in enumerate(zip(examples, questions, strict=True), first):
            question = np.array(encoding.ids[: self.settings.max_question_length], np.int32)
            if not len(question):
                raise DataError(f"example {example.id}: no token is found in its question")
            if self.settings.null_rate < 1 and not example.annotations:
                raise DataError(
                    f"example {example.id} has no annotations, so nothing says which of its "
                    f"windows are null: pass null_rate=1"
                )
            self._cut(rows, index, example, question, documents[example.text, example.candidates])
        return rows

    def documents(self, pages: Sequence[tuple[str, tuple[Candidate, ...]]]) -> list[Document]:
        """The tokens of each page, given as text and candidates."""
        passages = [_passages(text, candidates) for text, candidates in pages]
        texts = list(dict.fromkeys(passage.text for page in passages for passage in page))
        located = {
            text: trim_tokens(encoding, text)
            for text, encoding in zip(texts, self.backend.encode_batch(texts), strict=True)
        }
        documents = []
        for page in passages:
            ids: list[np.ndarray] = [np.empty(0, np.int32)]
            source: list[np.ndarray] = [np.empty(0, np.int32)]
            for markup, text, places, starts in page:
                if len(located[text].ids):
                    at = np.searchsorted(starts, located[text].start, side="right") - 1
                    ids += [np.array([self.markup[markup]], np.int32), located[text].ids]
                    source += [np.array([-1], np.int32), places[at]]
            documents.append(Document(np.concatenate(ids), np.concatenate(source)))
        return documents

    def _cut(
        self, rows: _Rows, index: int, example: Example, question: np.ndarray, document: Document
    ) -> None:
        layout, settings = self.layout, self.settings
        room = settings.max_length - layout.n_special - len(question)
        if room < 1:
            raise SettingsError(
                f"max_length={settings.max_length} leaves no room for the document beside a "
                f"question of {len(question)} tokens (max_question_length="
                f"{settings.max_question_length}) and {layout.n_special} special tokens"
            )
        n_tokens, step = len(document.ids), min(settings.doc_stride, room)
        if not n_tokens:
            return
        answer_type, first, last = _labels(example, document)
        head = np.concatenate([layout.prefix, question, layout.middle])
        begins = np.arange(1 + max(0, -(-(n_tokens - room) // step))) * step
        holds = (first >= begins) & (last < begins + room) & (answer_type != AnswerType.NULL)
        kept = np.ones_like(holds)
        if settings.null_rate < 1:
            # Of the example alone: it does not matter what stands before it, or in which batch.
            draw = np.random.default_rng((settings.seed, example.id % 2**64)).random(len(begins))
            kept = holds | (draw < settings.null_rate)
        for begin, is_answered in zip(begins[kept].tolist(), holds[kept].tolist(), strict=True):
            stop = min(begin + room, n_tokens)
            labels = (0, 0, int(AnswerType.NULL))
            if is_answered:
                shift = len(head) - begin
                labels = (first + shift, last + shift, int(answer_type))
            sizes = (
                len(layout.prefix), len(question), len(layout.middle), stop - begin,
                len(layout.suffix),
            )  # fmt: skip
            rows.input_ids.append(np.concatenate([head, document.ids[begin:stop], layout.suffix]))
            rows.token_type_ids.append(np.repeat(np.array(layout.types, np.int8), sizes))
            rows.document_token.append(document.source[begin:stop])
            rows.scalars.append((index, len(head), *labels, sum(sizes)))


class _Rows:
    """Windows gathered as arrays, which Arrow takes without a copy to Python objects."""

    def __init__(self) -> None:
        self.input_ids: list[np.ndarray] = []
        self.token_type_ids: list[np.ndarray] = []
        self.document_token: list[np.ndarray] = []
        self.scalars: list[tuple[int, ...]] = []

    def table(self) -> pa.Table:
        names = (
            "example_index", "context_start", "start_position", "end_position", "answer_type",
            "length",
        )  # fmt: skip
        scalars = np.array(self.scalars, np.int32)
        columns: dict[str, Any] = {
            name: pa.array(scalars[:, position]) for position, name in enumerate(names)
        }
        for name in ("input_ids", "token_type_ids", "document_token"):
            arrays: list[np.ndarray] = getattr(self, name)
            offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int32)
            columns[name] = pa.ListArray.from_arrays(offsets, np.concatenate(arrays))
        return pa.table({name: columns[name] for name in WINDOW_FEATURES})


def _passages(text: str, candidates: Sequence[Candidate]) -> list[_Passage]:
    """The top-level candidates that have text, numbered by kind."""
    passages = []
    counts: dict[str, int] = {}
    # whole arrays of places, as pages have many tokens for each tag
    codes = np.frombuffer(f"{text} ".encode("utf-32-le"), np.uint32)
    ends = np.flatnonzero(codes == ord(" "))
    begins = np.append(0, ends[:-1] + 1)
    angled = np.flatnonzero(codes[begins] == ord("<")).tolist()
    tags = [place for place in angled if tag_name(text[begins[place] : ends[place]])]
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
            kind = _KINDS.get(tag_name(text[begins[start] : ends[start]]) or "", "Other")
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


def _labels(example: Example, document: Document) -> tuple[AnswerType, int, int]:
    """The example's type, and the first and last of the answer's tokens (-1: there are none)."""
    answer_type, span = target(example)
    if span is not None:
        inside = np.flatnonzero((document.source >= span.start) & (document.source < span.end))
        if len(inside):
            return answer_type, int(inside[0]), int(inside[-1])
    return AnswerType.NULL, -1, -1


def _batches(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Examples whose distinct pages are short enough together to be tokenised at once."""
    batch: list[Example] = []
    n_characters = 0
    for example in examples:
        batch.append(example)
        if len(batch) == 1 or example.text != batch[-2].text:
            n_characters += len(example.text)
        if n_characters >= _BATCH_CHARACTERS or len(batch) == _BATCH_EXAMPLES:
            yield batch
            batch, n_characters = [], 0
    if batch:
        yield batch
