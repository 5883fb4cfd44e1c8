"""Questions and their contexts as windows of tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Features, List, Value
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from qaprune_lib.data.offsets import TokenizedContext, locate_tokens
from qaprune_lib.errors import DataError, SettingsError

WINDOW_FEATURES = Features(
    {
        "example_index": Value("int32"),
        "input_ids": List(Value("int32")),
        "token_type_ids": List(Value("int8")),
        "context_start": Value("int32"),
        "token_start": List(Value("int32")),
        "token_end": List(Value("int32")),
        "start_position": Value("int32"),
        "end_position": Value("int32"),
        "length": Value("int32"),
    }
)


@dataclass(frozen=True)
class WindowSettings:
    """Sizes in tokens; ``doc_stride`` is the step from one window to the next."""

    max_length: int = 384
    doc_stride: int = 128
    max_question_length: int = 64

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SettingsError(f"{name}={value!r} must be an integer of at least 1")


def tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> str:
    """The fast tokenizer as JSON, without the truncation and padding of its latest call."""
    if not tokenizer.is_fast:
        raise SettingsError(
            f"{type(tokenizer).__name__} is not a fast tokenizer, so it gives no offsets; load it "
            f"with AutoTokenizer.from_pretrained(...) from a folder with a tokenizer.json"
        )
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return json.dumps(state | {"truncation": None, "padding": None})


@dataclass(frozen=True)
class Layout:
    """What a tokenizer puts around a question and its context, and their token types."""

    prefix: np.ndarray
    middle: np.ndarray
    suffix: np.ndarray
    types: tuple[int, int, int, int, int]  # prefix, question, middle, context, suffix

    @property
    def n_special(self) -> int:
        """Special tokens of a window."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)


class WindowCutter:
    """Turns a batch of questions into the rows of `make_features`; travels between processes."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: WindowSettings) -> None:
        self.settings = settings
        has_types = "token_type_ids" in tokenizer.model_input_names
        self.backend, self.layout = split_tokenizer(tokenizer_state(tokenizer), has_types)

    def __call__(self, table: pa.Table, indices: Sequence[int]) -> pa.Table:
        """The windows of the questions in ``table``, whose row numbers are ``indices``."""
        rows = table.to_pydict()
        distinct = {
            context: number for number, context in enumerate(dict.fromkeys(rows["context"]))
        }
        contexts = [
            locate_tokens(encoding, context)
            for encoding, context in zip(
                self.backend.encode_batch(list(distinct)), distinct, strict=True
            )
        ]
        questions = self.backend.encode_batch(rows["question"])
        out = _Rows()
        for index, identity, text, answers, encoding in zip(
            indices, rows["id"], rows["context"], rows["answers"], questions, strict=True
        ):
            context = contexts[distinct[text]]
            question = encoding.ids[: self.settings.max_question_length]
            if not question or not len(context.ids):
                what = "context" if question else "question"
                raise DataError(
                    f"question {identity!r}: the tokenizer finds no token in its {what}"
                )
            self._cut(out, index, np.array(question, np.int32), context, _span(context, answers))
        return out.table()

    def _cut(
        self,
        out: _Rows,
        index: int,
        question: np.ndarray,
        context: TokenizedContext,
        answer: tuple[int, int] | None,
    ) -> None:
        layout, settings = self.layout, self.settings
        room = settings.max_length - layout.n_special - len(question)
        if room < 1:
            raise SettingsError(
                f"max_length={settings.max_length} leaves no room for the context beside a "
                f"question of {len(question)} tokens (max_question_length="
                f"{settings.max_question_length}) and {layout.n_special} special tokens"
            )
        head = np.concatenate([layout.prefix, question, layout.middle])
        n_tokens, step = len(context.ids), min(settings.doc_stride, room)
        n_windows = 1 + max(0, -(-(n_tokens - room) // step))
        for begin in range(0, n_windows * step, step):
            stop = min(begin + room, n_tokens)
            n_context = stop - begin
            labels = (0, 0)
            if answer is not None and begin <= answer[0] and answer[1] < stop:
                labels = (answer[0] - begin + len(head), answer[1] - begin + len(head))
            out.input_ids.append(np.concatenate([head, context.ids[begin:stop], layout.suffix]))
            sizes = (
                len(layout.prefix), len(question), len(layout.middle), n_context, len(layout.suffix)
            )  # fmt: skip
            out.token_type_ids.append(np.repeat(np.array(layout.types, np.int8), sizes))
            out.token_start.append(context.start[begin:stop])
            out.token_end.append(context.end[begin:stop])
            out.scalars.append((index, len(head), *labels, sum(sizes)))


class _Rows:
    """Windows gathered as arrays, which Arrow takes without a copy to Python objects."""

    def __init__(self) -> None:
        self.input_ids: list[np.ndarray] = []
        self.token_type_ids: list[np.ndarray] = []
        self.token_start: list[np.ndarray] = []
        self.token_end: list[np.ndarray] = []
        self.scalars: list[tuple[int, int, int, int, int]] = []

    def table(self) -> pa.Table:
        names = ("example_index", "context_start", "start_position", "end_position", "length")
        scalars = np.array(self.scalars, np.int32).reshape(-1, len(names))
        columns: dict[str, Any] = {
            name: pa.array(scalars[:, position]) for position, name in enumerate(names)
        }
        for name in ("input_ids", "token_type_ids", "token_start", "token_end"):
            arrays: list[np.ndarray] = getattr(self, name)
            offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int32)
            columns[name] = pa.ListArray.from_arrays(offsets, np.concatenate(arrays))
        return pa.table({name: columns[name] for name in WINDOW_FEATURES})


@lru_cache(maxsize=4)  # parsing a vocabulary takes longer than tokenising one question
def split_tokenizer(state: str, has_types: bool) -> tuple[Tokenizer, Layout]:
    """A tokenizer that adds no special tokens, and where they belong."""
    backend = Tokenizer.from_str(state)
    layout = _layout(backend, has_types)
    # It would also trim the offsets of some tokens to nothing; `locate_tokens` knows better.
    backend.post_processor = None
    return backend, layout


def _layout(backend: Tokenizer, has_types: bool) -> Layout:
    pair = backend.encode("a", "a")
    sequence = pair.sequence_ids
    order = [number for number in sequence if number is not None]
    if order != sorted(order) or set(order) != {0, 1} or sequence[0] is not None:
        raise SettingsError(
            "the tokenizer does not put a first special token, the question and the context in "
            f"this order: a pair of texts gives {pair.tokens}"
        )
    question, context = sequence.index(0), sequence.index(1)
    middle, suffix = question + order.count(0), context + order.count(1)
    ids = np.array(pair.ids, np.int32)
    # Positions that stand for their part; an empty middle or suffix repeats its type no times.
    at = (0, question, middle, context, min(suffix, len(ids) - 1))
    type_of = pair.type_ids if has_types else [0] * len(ids)
    types = tuple(type_of[position] for position in at)
    return Layout(ids[:question], ids[middle:context], ids[suffix:], types)  # type: ignore[arg-type]


def _span(context: TokenizedContext, answers: dict[str, list[Any]]) -> tuple[int, int] | None:
    """First and last token that share a character with the first answer."""
    if not answers["text"]:
        return None
    first = answers["answer_start"][0]
    last = first + len(answers["text"][0])
    inside = np.flatnonzero((context.start < last) & (context.end > first))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None
