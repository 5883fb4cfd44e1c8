"""Windows of tokens over questions and their contexts, cached on disk."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import tokenizers
from datasets import Dataset

from qaprune_lib.data.arrow_cache import kept_dataset
from qaprune_lib.data.tasks import QuestionData, task_of
from qaprune_lib.data.tokens import tokenizer_state
from qaprune_lib.data.windows import Notes, Task, WindowCutter, Windows
from qaprune_lib.errors import DataError, counts, warn
from qaprune_lib.progress import tqdm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CUTTERS: list[WindowCutter] = []  # of a process that works for others


def make_features(
    data: QuestionData,
    tokenizer: PreTrainedTokenizerBase,
    windows: Windows | None = None,
    *,
    training: bool = False,
    num_proc: int | None = None,
    cache_dir: Path | None = None,
) -> Dataset:
    """Cut questions and their contexts into windows of tokens, and label the answers.

    An answer is labelled where it lies in a window as a whole: the first answer of a question of
    SQuAD; what `target` says of one of Natural Questions. The context of the latter is the text of
    its page's top-level candidates, without HTML tags, each led by a markup token for its kind and
    number, such as ``[Table=2]`` (Alberti et al. 2019). Memory holds a batch of questions at a
    time, whatever the size of the data.

    Args:
        data: questions as `load_squad` gives them, or a split of `load_natural_questions`.
        tokenizer: a fast tokenizer; for Natural Questions with ids for the markup tokens
            (`markup_ids`).
        windows: their sizes; by default the task's.
        training: leave out null windows, of Natural Questions, as ``windows.null_rate`` says.
        num_proc: processes that share the work, at most 1024.
        cache_dir: where the result is kept; default ``$QAPRUNE_CACHE`` or ``~/.cache/qaprune``.

    Returns:
        One row per window, in the order of the questions: example_index (number of the question),
        input_ids and token_type_ids [length], context_start (position of the first context
        token), start_position and end_position (0: the answer is not in this window), length.
        Of SQuAD also token_start and token_end [n_context] (characters of the context, such that
        ``context[token_start[i]:token_end[j]]``, i ≤ j, is not empty); of Natural Questions
        document_token [n_context] (the document's token that each context token is part of; -1 at
        markup) and answer_type (`AnswerType`). A page whose candidates hold no text has no row.

    Raises:
        SettingsError: sizes that leave no room for the context, or a tokenizer that is not fast
            or has no markup tokens.
        DataError: no questions, bad data, a question or context without any token, no windows at
            all, or null windows to be drawn without annotations.

    >>> from qaprune_lib import load_model, load_squad
    >>> tokenizer = load_model("embedded-small", device="cpu").tokenizer
    >>> rows = make_features(load_squad("embedded")["dev"].select([0]), tokenizer, Windows(64, 16))
    >>> rows["length"][:]
    [64, 64, 64, 63]
    """
    (num_proc,) = counts(or_none=True, most=1024, num_proc=num_proc)
    task = task_of(data)
    sizes = task.resolve(windows)
    if not training:
        sizes = replace(sizes, null_rate=None)
    depends_on = {
        "tokenizers": tokenizers.__version__,
        "tokenizer": tokenizer_state(tokenizer),
        "task": task.name,
        "windows": asdict(sizes),
        "data": task.digest(data),
    }

    notes = Notes()

    def tables() -> Iterator[pa.Table]:
        n_windows = 0
        for table in _cut(task.batches(data), num_proc or 1, (task, tokenizer, sizes)):
            n_windows += len(table)
            notes.read(table.schema.metadata[b"notes"])
            yield table
        if not n_windows:
            raise DataError(
                f"no window is left (null_rate={sizes.null_rate}, and no context with an answer)"
            )

    found = kept_dataset("features", depends_on, task.features, tables(), cache_dir, notes.take)
    if training:
        notes.read(found.info.description)
        _say(notes)
    return found


def _say(notes: Notes) -> None:
    """What is wrong with questions to train on."""
    if "unlabelled" in notes.found:
        count, first = notes.found["unlabelled"]
        raise DataError(
            f"{count} questions have no answers to train on, not even an empty list, which says "
            f"that there is none; the first: {first}"
        )
    if "unplaced" in notes.found:
        count, first = notes.found["unplaced"]
        warn(
            f"{count} questions have an answer that no window holds as a whole, and are trained on "
            f"as if they had none; the first: {first}; a larger max_length holds longer answers"
        )


def _cut(
    batches: Iterable[tuple[int, Any]],
    n_processes: int,
    cutter: tuple[Task, PreTrainedTokenizerBase, Windows],
) -> Iterator[pa.Table]:
    """The windows of each batch, in order, cut by this process or by several others."""
    if n_processes == 1:
        cut = WindowCutter(*cutter)
        for first, batch in _numbered(batches):
            yield from cut(first, batch)
        return
    waiting: deque[Future[list[pa.Table]]] = deque()
    with ProcessPoolExecutor(n_processes, initializer=_start, initargs=cutter) as pool:
        for first, batch in _numbered(batches):
            waiting.append(pool.submit(_work, first, batch))
            if len(waiting) > n_processes:  # no more batches in memory than there is work for
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _numbered(batches: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """Each batch with the number of its first question, under a progress bar."""
    first = 0
    with tqdm(desc="cutting windows", unit="question", mininterval=1.0, delay=1.0) as bar:
        for n_questions, batch in batches:
            yield first, batch
            first += n_questions
            bar.update(n_questions)


def _start(*cutter: Any) -> None:
    """In a process that works for others, whose tokenizer has one thread."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _CUTTERS.append(WindowCutter(*cutter))


def _work(first: int, batch: Any) -> list[pa.Table]:
    return list(_CUTTERS[0](first, batch))
