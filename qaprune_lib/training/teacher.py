"""Teacher logits, computed once for each teacher and data set and kept on disk.

A teacher with another tokenizer reads windows of its own over the same text, and its logits are
carried over to the student's tokens.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from qaprune_lib.cache import cache_root, read_or_build
from qaprune_lib.data.arrow_cache import column
from qaprune_lib.data.natural_questions.example import AnswerType
from qaprune_lib.data.tasks import QuestionData, task_of
from qaprune_lib.data.tokens import tokenizer_state
from qaprune_lib.errors import ModelError, SettingsError
from qaprune_lib.evaluation.logits import window_logits
from qaprune_lib.models import Encoder, QuestionAnsweringModel, weights_digest
from qaprune_lib.training import alignment
from qaprune_lib.training.objectives import teacher_column

NO_MASS = -1e4  # a logit without probability at any temperature that makes sense, yet finite


def with_teacher_logits(
    features: Dataset,
    data: QuestionData,
    student: PreTrainedTokenizerBase,
    teacher: QuestionAnsweringModel,
    *,
    cache_dir: Path | None = None,
    progress: bool = True,
) -> Dataset:
    """Windows with the teacher's logits as columns named by `teacher_column` (float32 lists).

    The logits are kept under the cache, keyed by the teacher's weights and the windows, so that a
    second call reads them. The teacher runs with dropout off.

    Args:
        features: windows of the data.
        data: what they were made of.
        student: the tokenizer that made them.
        teacher: a model for the same task.
        cache_dir: default ``$QAPRUNE_CACHE`` or ``~/.cache/qaprune``.
        progress: show a bar.

    Raises:
        ModelError: the teacher is one for another task, or gives logits that are not finite.
        SettingsError: windows that are too long for the teacher's tokenizer.
    """
    head, task = teacher.task_head, task_of(data)
    if head.task != task.name:
        raise ModelError(f"the teacher is one for {head.task!r}, the questions for {task.name!r}")
    is_aligned = student.get_vocab() != teacher.tokenizer.get_vocab()
    lengths = column(features, "length").astype(np.int64)
    sizes = {
        name: lengths if name in head.positions else np.full(len(features), len(AnswerType))
        for name in head.logits
    }

    def build(folder: Path) -> None:
        if is_aligned:
            by_window = aligned_logits(features, data, student, teacher, progress=progress)
        else:
            by_window = window_logits(teacher, features, progress=progress)
        for name, rows in zip(head.logits, zip(*by_window, strict=True), strict=True):
            flat = np.concatenate(rows)
            if not np.isfinite(flat).all():
                raise ModelError(
                    "the teacher gives logits that are not finite; it cannot be a teacher"
                )
            np.save(folder / _file(name), flat)

    def read(folder: Path) -> dict[str, np.ndarray]:
        return {name: np.load(folder / _file(name), allow_pickle=False) for name in sizes}

    parts: list[Any] = [weights_digest(teacher), _windows_digest(features)]
    if is_aligned:
        parts += [task.digest(data), Path(alignment.__file__).read_text(encoding="utf-8")]
        parts += map(tokenizer_state, (student, teacher.tokenizer))
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
    logits = read_or_build(cache_root(cache_dir) / "teacher" / key, build, read)
    for name, flat in logits.items():
        offsets = pa.array(np.cumsum([0, *sizes[name]]))
        lists = pa.LargeListArray.from_arrays(offsets, pa.array(flat))
        features = features.add_column(teacher_column(name), lists)
    return features


def aligned_logits(
    features: Dataset,
    data: QuestionData,
    student: PreTrainedTokenizerBase,
    teacher: QuestionAnsweringModel,
    *,
    progress: bool = True,
) -> list[tuple[np.ndarray, ...]]:
    """The teacher's logits of each window, at the student's tokens.

    The probability that it gives to a start at one of its tokens goes to the student's token that
    holds the first character of this token, and that of an end to the one that holds the last;
    several of them add up. A token of the student in which none of the teacher's starts has none.

    Args:
        features: the student's windows of the data.
        data: what they were made of.
        student: the tokenizer that made them.
        teacher: a model with another one.
        progress: show a bar.

    Raises:
        SettingsError: the teacher needs more tokens for a window than it has positions.
    """
    align = alignment.ALIGNERS[task_of(data).name]
    windows = list(align(features, data, student, teacher.tokenizer))
    sizes, limit = [len(window.input_ids) for window in windows], Encoder(teacher).longest_input()
    if max(sizes) > limit:
        raise SettingsError(
            f"a window takes {max(sizes)} of the teacher's tokens, which has {limit} positions: "
            "choose a smaller max_length"
        )
    offsets = np.cumsum([0, *sizes])
    columns = {
        name: pa.LargeListArray.from_arrays(
            offsets, pa.array(np.concatenate([getattr(window, name) for window in windows]))
        )
        for name in ("input_ids", "token_type_ids")
    }
    theirs = Dataset(pa.table({**columns, "length": np.diff(offsets)}))
    return [
        (carry(start, window.start, length), carry(end, window.end, length), *classes)
        for (start, end, *classes), window, length in zip(
            window_logits(teacher, theirs, progress=progress),
            windows,
            column(features, "length"),
            strict=True,
        )
    ]


def carry(logits: np.ndarray, places: np.ndarray, length: int) -> np.ndarray:
    """The log of the summed exponentials of all logits that go to each of `length` places.

    A place that none goes to has `NO_MASS`; float32.
    """
    carried = np.full(length, -np.inf)
    np.logaddexp.at(carried, places, logits.astype(np.float64))
    return np.where(np.isfinite(carried), carried, NO_MASS).astype(np.float32)


def _windows_digest(features: Dataset) -> str:
    digest = hashlib.sha256(column(features, "length").tobytes())
    for batch in features.select_columns(["input_ids"]).with_format("arrow").iter(1000):
        for chunk in batch.column("input_ids").chunks:
            digest.update(chunk.flatten().to_numpy().tobytes())
    return digest.hexdigest()


def _file(name: str) -> str:
    return f"{name.removesuffix('_logits')}.npy"
