"""Questions and their contexts as windows of tokens, for every task by one cutter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Features, List, Value
from tokenizers import Tokenizer

from qaprune_lib.data.tokens import Tokens, split_tokenizer
from qaprune_lib.errors import DataError, SettingsError, counts, real, short

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TaskName = Literal["squad", "natural_questions"]
_TABLE = 2048  # windows


@dataclass(frozen=True)
class Windows:
    """How a question with a long context becomes windows of tokens that a model can read.

    One value goes through training, scoring, decoding and timing, so that all see the same
    windows. As in the original BERT code for SQuAD: the question's first tokens, then as much
    context as fits, in steps of ``doc_stride`` tokens (or of a whole window, where that is less).

    Attributes:
        max_length: tokens of a window, with question and special tokens.
        doc_stride: tokens from the start of a window to that of the next.
        max_question_length: tokens of the question that are kept.
        null_rate: share of the windows without an answer that models train on, for Natural
            Questions alone (None: 0.02, as Alberti et al. 2019); all are decoded.

    Raises:
        SettingsError: a size that is no integer of at least 1, or a rate outside of [0, 1].

    >>> Windows(384)
    Windows(max_length=384, doc_stride=128, max_question_length=64, null_rate=None)
    """

    max_length: int
    doc_stride: int = 128
    max_question_length: int = 64
    null_rate: float | None = None

    def __post_init__(self) -> None:
        sizes = asdict(self)
        rate = sizes.pop("null_rate")
        for name, size in zip(sizes, counts(**sizes), strict=True):
            object.__setattr__(self, name, size)
        if rate is None:
            return
        if not 0 <= real(rate) <= 1:
            raise SettingsError(f"null_rate={short(rate)} is not a share: it must lie in [0, 1]")
        object.__setattr__(self, "null_rate", real(rate))


class Asked(NamedTuple):
    """A question as its tokens, with what there is to learn.

    name: in messages.
    answer: its first place in the context and the one after its last, as `Tokens` counts places.
    answer_type: of the windows that hold the answer.
    draw: the number that draws the null windows to keep; None if nothing says which are null.
    is_labelled: whether it is known if there is an answer.
    """

    name: str
    question: Sequence[int]
    context: Tokens
    answer: tuple[int, int] | None
    answer_type: int = 0
    draw: int | None = None
    is_labelled: bool = True


@dataclass(frozen=True)
class Task:
    """A kind of questions: all that it changes on the way from data into windows.

    Attributes:
        name: what heads of models call it.
        windows: its default sizes.
        token_columns: its own columns of windows, lists over context tokens, and the attribute of
            `Tokens` that each of them holds.
        has_types: whether there are types of answers.
        digest: SHA-256 (hex) of questions, in their order.
        batches: the questions in batches, each with its size.
        reader: given a tokenizer without special tokens, a function that reads a batch.
        some: so many questions, evenly spaced; of a stream about so many, drawn at random.
        held: questions in memory, to be decoded again and again.
    """

    name: TaskName
    windows: Windows
    token_columns: Mapping[str, str]
    has_types: bool
    digest: Callable[[Any], str]
    batches: Callable[[Any], Iterator[tuple[int, Any]]]
    reader: Callable[[Tokenizer], Callable[[Any], Iterable[Asked]]]
    some: Callable[[Any, int], Any]
    held: Callable[[Any], Any]

    @property
    def features(self) -> Features:
        """Columns of windows."""
        integer, integers = Value("int32"), List(Value("int32"))
        return Features(
            {
                "example_index": integer,
                "input_ids": integers,
                "token_type_ids": List(Value("int8")),
                "context_start": integer,
                **dict.fromkeys(self.token_columns, integers),
                "start_position": integer,
                "end_position": integer,
                **({"answer_type": Value("int8")} if self.has_types else {}),
                "length": integer,
            }
        )

    def resolve(self, windows: Windows | None) -> Windows:
        """The windows, by default the task's; so is a `null_rate` that is not given.

        Raises:
            SettingsError: no windows, or a `null_rate` for SQuAD, where all are kept.
        """
        if not isinstance(windows, Windows | None):
            raise SettingsError(f"windows={windows!r} must be a value such as Windows(384, 128)")
        windows, default = windows or self.windows, self.windows.null_rate
        if windows.null_rate is None:
            return replace(windows, null_rate=default)
        if default is None:
            raise SettingsError(f"null_rate={windows.null_rate} is for Natural Questions alone")
        return windows


class Notes:
    """Of each kind of trouble how many questions have it, and the first."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, str]] = {}

    def add(self, kind: str, what: str, count: int = 1) -> None:
        """Note one question more, or several."""
        before, first = self.found.get(kind, (0, what))
        self.found[kind] = before + count, first

    def take(self) -> str:
        """All of them as JSON; none are left."""
        noted, self.found = json.dumps(self.found), {}
        return noted

    def read(self, noted: str | bytes) -> None:
        """Add what another took."""
        for kind, (count, first) in json.loads(noted).items():
            self.add(kind, first, count)


class WindowCutter:
    """Turns batches of a task's questions into tables of windows, of at most 2048 each.

    Questions that cannot be trained on as they stand are noted in a table's metadata.

    Args:
        task: what the batches are of.
        tokenizer: a fast tokenizer.
        windows: sizes; null windows are left out where its ``null_rate`` says so.
    """

    def __init__(self, task: Task, tokenizer: PreTrainedTokenizerBase, windows: Windows) -> None:
        self.windows, self.features, self.token_columns = windows, task.features, task.token_columns
        backend, self.layout = split_tokenizer(tokenizer)
        self.read = task.reader(backend)

    def __call__(self, first: int, batch: Any) -> Iterator[pa.Table]:
        """The windows of a batch whose first question has the number ``first``."""
        notes = Notes()
        asked = enumerate(self.read(batch), first)
        windows = (row for number, one in asked for row in self._cut(number, one, notes))
        while True:
            rows = list(islice(windows, _TABLE))
            columns = {
                name: _column([row[name] for row in rows], kind)
                for name, kind in self.features.items()
            }
            yield pa.table(columns, metadata={"notes": notes.take()})
            if len(rows) < _TABLE:
                return

    def _cut(self, number: int, asked: Asked, notes: Notes) -> Iterator[dict[str, Any]]:
        layout, windows, context = self.layout, self.windows, asked.context
        rate = 1.0 if windows.null_rate is None else windows.null_rate
        question = np.array(asked.question[: windows.max_question_length], np.int32)
        if not len(question):
            raise DataError(f"{asked.name}: the tokenizer finds no token in its question")
        if rate < 1 and asked.draw is None:
            raise DataError(
                f"{asked.name} has no annotations, so nothing says which of its windows are null: "
                f"pass null_rate=1"
            )
        room = windows.max_length - layout.n_special - len(question)
        if room < 1:
            raise SettingsError(
                f"{asked.name}: max_length={windows.max_length} leaves no room for the context "
                f"beside a question of {len(question)} tokens (max_question_length="
                f"{windows.max_question_length}) and {layout.n_special} special tokens: choose "
                f"windows=Windows(max_length, doc_stride, max_question_length) with a larger first "
                f"or a smaller last number"
            )
        if not len(context.ids):
            return
        step = min(windows.doc_stride, room)
        begins = range(0, max(1, len(context.ids) - room + step), step)
        draws: Iterable[float] = repeat(0.0)
        if rate < 1 and asked.draw is not None:
            # Of the question alone: it does not matter what stands before it, or in which batch.
            draws = np.random.default_rng((0, asked.draw)).random(len(begins))
        first, last = _span(context, asked.answer)
        if not asked.is_labelled:
            notes.add("unlabelled", asked.name)
        elif asked.answer and not any(b <= first and last < b + room for b in begins):
            size = f"of {last - first + 1} tokens" if first >= 0 else "without a token"
            notes.add("unplaced", f"{asked.name}, an answer {size} where {room} have room")
        head = np.concatenate([layout.prefix, question, layout.middle])
        before = len(layout.prefix), len(question), len(layout.middle)
        for begin, draw in zip(begins, draws, strict=False):
            is_answered = begin <= first and last < begin + room
            if not is_answered and draw >= rate:
                continue
            part = context[begin : begin + room]
            input_ids = np.concatenate([head, part.ids, layout.suffix])
            sizes = (*before, len(part.ids), len(layout.suffix))
            shift = len(head) - begin
            yield {
                "example_index": number,
                "input_ids": input_ids,
                "token_type_ids": np.repeat(layout.types, sizes),
                "context_start": len(head),
                "start_position": first + shift if is_answered else 0,
                "end_position": last + shift if is_answered else 0,
                "answer_type": asked.answer_type if is_answered else 0,
                "length": len(input_ids),
                **{name: getattr(part, held) for name, held in self.token_columns.items()},
            }


def _span(context: Tokens, answer: tuple[int, int] | None) -> tuple[int, int]:
    """First and last token that share a place with the answer; -1 where there is none."""
    if answer is not None:
        inside = np.flatnonzero((context.start < answer[1]) & (context.end > answer[0]))
        if len(inside):
            return int(inside[0]), int(inside[-1])
    return -1, -1


def _column(values: list[Any], kind: Any) -> pa.Array:
    """Numbers, or arrays of them, without a copy to Python objects."""
    if not isinstance(kind, List):
        return pa.array(np.array(values, kind.dtype))
    offsets = np.cumsum([0, *map(len, values)], dtype=np.int32)
    return pa.ListArray.from_arrays(
        offsets, np.concatenate([np.empty(0, kind.feature.dtype), *values])
    )
