"""Teacher logits, computed once for each teacher and data set and kept on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset

from qaprune_lib.cache import cache_root
from qaprune_lib.errors import ModelError
from qaprune_lib.evaluation.decode import window_logits
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.models.zoo import weights_digest

TEACHER_COLUMNS = ("teacher_start_logits", "teacher_end_logits")
_FILES = ("start.npy", "end.npy")


def with_teacher_logits(
    features: Dataset,
    teacher: QuestionAnsweringModel,
    *,
    cache_dir: Path | None = None,
    progress: bool = True,
) -> Dataset:
    """Windows with the columns `teacher_start_logits` and `teacher_end_logits` (float32 lists).

    The logits are kept under the cache, keyed by the teacher's weights and the windows, so that a
    second call reads them. The teacher runs with dropout off.

    Raises:
        ModelError: the teacher gives logits that are not finite.
    """
    lengths = np.asarray(features["length"], dtype=np.int64)
    folder = cache_root(cache_dir) / "teacher" / _key(features, teacher)
    logits = _read(folder, int(lengths.sum()))
    if logits is None:
        by_window = window_logits(teacher, features, progress=progress)
        logits = [np.concatenate(rows) for rows in by_window]
        if not all(np.isfinite(flat).all() for flat in logits):
            raise ModelError("the teacher gives logits that are not finite; it cannot be a teacher")
        _store(folder, logits)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]))
    for column, flat in zip(TEACHER_COLUMNS, logits, strict=True):
        lists = pa.LargeListArray.from_arrays(offsets, pa.array(flat))
        features = features.add_column(column, lists)
    return features


def _key(features: Dataset, teacher: QuestionAnsweringModel) -> str:
    digest = hashlib.sha256(weights_digest(teacher).encode())
    digest.update(np.asarray(features["length"], dtype=np.int64).tobytes())
    for batch in features.select_columns(["input_ids"]).with_format("arrow").iter(1000):
        for chunk in batch.column("input_ids").chunks:
            digest.update(chunk.flatten().to_numpy().tobytes())
    return digest.hexdigest()[:32]


def _read(folder: Path, n_tokens: int) -> list[np.ndarray] | None:
    """Start and end logits [n_tokens], or None where they are missing or damaged."""
    try:
        logits = [np.load(folder / file, allow_pickle=False) for file in _FILES]
    except (OSError, ValueError, EOFError):
        return None
    whole = all(
        flat.shape == (n_tokens,) and flat.dtype == np.float32 and np.isfinite(flat).all()
        for flat in logits
    )
    return logits if whole else None


def _store(folder: Path, logits: list[np.ndarray]) -> None:
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for file, flat in zip(_FILES, logits, strict=True):
        with (temporary / file).open("xb") as opened:
            np.save(opened, flat)
            opened.flush()
            os.fsync(opened.fileno())
    shutil.rmtree(folder, ignore_errors=True)  # a damaged one
    try:
        os.replace(temporary, folder)
    except OSError:  # another process was faster
        shutil.rmtree(temporary)
