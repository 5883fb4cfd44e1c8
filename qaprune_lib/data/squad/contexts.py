"""Questions of SQuAD's form on their way into windows: places are characters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from datasets import Dataset
from tokenizers import Tokenizer

from qaprune_lib.data.squad.questions import batches, data_digest
from qaprune_lib.data.tokens import read_texts
from qaprune_lib.data.unicode_forms import blank_tokens
from qaprune_lib.data.windows import Asked, Task, Windows
from qaprune_lib.errors import DataError, short

Columns = dict[str, list[Any]]


def _batches(data: Dataset) -> Iterator[tuple[int, Columns]]:
    if len(data) == 0:
        raise DataError("there are no questions to make windows of: the data set is empty")
    for columns in batches(data):
        yield len(columns["id"]), columns


def _reader(backend: Tokenizer) -> Callable[[Columns], Iterator[Asked]]:
    def read(columns: Columns) -> Iterator[Asked]:
        contexts = read_texts(backend, columns["context"])
        # once for each text: several questions share one
        is_blank = {t: blank_tokens(t, c.start, c.end).all() for t, c in contexts.items()}
        questions = backend.encode_batch(columns["question"])
        for identity, text, answers, question in zip(
            columns["id"], columns["context"], columns["answers"], questions, strict=True
        ):
            name, context = f"question {short(identity)}", contexts[text]
            if is_blank[text]:
                raise DataError(f"{name}: the tokenizer finds no token that is seen in its context")
            is_labelled = answers is not None
            yield Asked(name, question.ids, context, _first(answers), is_labelled=is_labelled)

    return read


def _first(answers: dict[str, list[Any]] | None) -> tuple[int, int] | None:
    """Where the first answer begins and ends, if there is one."""
    if not answers or not answers["text"]:
        return None
    start = answers["answer_start"][0]
    return start, start + len(answers["text"][0])


def _some(data: Dataset, count: int) -> Dataset:
    if count >= len(data):
        return data
    return data.select(np.linspace(0, len(data) - 1, count).round().astype(int))


SQUAD = Task(
    name="squad",
    windows=Windows(384),
    token_columns={"token_start": "start", "token_end": "end"},
    has_types=False,
    digest=data_digest,
    batches=_batches,
    reader=_reader,
    some=_some,
    held=lambda data: data,
)
