"""Teacher logits, computed once for each teacher and data set and kept on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset

from qaprune_lib.cache import cache_root
from qaprune_lib.data.natural_questions_example import AnswerType
from qaprune_lib.errors import ModelError
from qaprune_lib.evaluation.logits import window_logits
from qaprune_lib.models.heads import head_of
from qaprune_lib.models.load import weights_digest
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.training.alignment import Alignment
from qaprune_lib.training.objectives import teacher_column


def with_teacher_logits(
    features: Dataset,
    teacher: QuestionAnsweringModel,
    *,
    alignment: Alignment | None = None,
    cache_dir: Path | None = None,
    progress: bool = True,
) -> Dataset:
    """Windows with the teacher's logits as columns named by `teacher_column` (float32 lists).

    The logits are kept under the cache, keyed by the teacher's weights and the windows, so that a
    second call reads them. The teacher runs with dropout off. With an `alignment` it reads windows
    of its own over the same text, as its tokenizer cuts them.

    Raises:
        ModelError: the teacher gives logits that are not finite.
        SettingsError: windows that are too long for the teacher's tokenizer.
    """
    head = head_of(teacher)
    lengths = {
        name: np.asarray(features["length"], dtype=np.int64)
        if name in head.positions
        else np.full(len(features), len(AnswerType))
        for name in head.logits
    }
    folder = cache_root(cache_dir) / "teacher" / _key(features, teacher, alignment)
    logits = _read(folder, {name: int(sizes.sum()) for name, sizes in lengths.items()})
    if logits is None:
        if alignment is None:
            by_window = window_logits(teacher, features, progress=progress)
        else:
            by_window = alignment.logits(features, teacher, progress=progress)
        logits = {
            name: np.concatenate(rows) for name, rows in zip(head.logits, by_window, strict=True)
        }
        if not all(np.isfinite(flat).all() for flat in logits.values()):
            raise ModelError("the teacher gives logits that are not finite; it cannot be a teacher")
        _store(folder, logits)
    for name, flat in logits.items():
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths[name])]))
        lists = pa.LargeListArray.from_arrays(offsets, pa.array(flat))
        features = features.add_column(teacher_column(name), lists)
    return features


def _key(features: Dataset, teacher: QuestionAnsweringModel, alignment: Alignment | None) -> str:
    digest = hashlib.sha256(weights_digest(teacher).encode())
    if alignment is not None:
        digest.update(alignment.digest(teacher.tokenizer).encode())
    digest.update(np.asarray(features["length"], dtype=np.int64).tobytes())
    for batch in features.select_columns(["input_ids"]).with_format("arrow").iter(1000):
        for chunk in batch.column("input_ids").chunks:
            digest.update(chunk.flatten().to_numpy().tobytes())
    return digest.hexdigest()[:32]


def _read(folder: Path, sizes: Mapping[str, int]) -> dict[str, np.ndarray] | None:
    """Logits by name, of the given sizes, or None where any are missing or damaged."""
    try:
        logits = {name: np.load(folder / _file(name), allow_pickle=False) for name in sizes}
    except (OSError, ValueError, EOFError):
        return None
    whole = all(
        flat.shape == (sizes[name],) and flat.dtype == np.float32 and np.isfinite(flat).all()
        for name, flat in logits.items()
    )
    return logits if whole else None


def _store(folder: Path, logits: Mapping[str, np.ndarray]) -> None:
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, flat in logits.items():
        with (temporary / _file(name)).open("xb") as opened:
            np.save(opened, flat)
            opened.flush()
            os.fsync(opened.fileno())
    shutil.rmtree(folder, ignore_errors=True)  # a damaged one
    try:
        os.replace(temporary, folder)
    except OSError:  # another process was faster
        shutil.rmtree(temporary)


def _file(name: str) -> str:
    return f"{name.removesuffix('_logits')}.npy"
