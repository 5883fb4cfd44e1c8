"""Teacher logits, computed once for each teacher and data set and kept on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset

from qaprune_lib.data.features import _cache_root
from qaprune_lib.errors import ModelError
from qaprune_lib.evaluation.decode import window_logits
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.models.zoo import weights_digest

TEACHER_COLUMNS = ("teacher_start_logits", "teacher_end_logits")


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
    folder = _cache_root(cache_dir) / "teacher" / _key(features, teacher)
    if not (folder / "end.npy").is_file():
        start, end = window_logits(teacher, features, progress=progress)
        if not all(np.isfinite(logits).all() for logits in (*start, *end)):
            raise ModelError("the teacher gives logits that are not finite; it cannot be a teacher")
        _store(folder, np.concatenate(start), np.concatenate(end))
    for column, file in zip(TEACHER_COLUMNS, ("start.npy", "end.npy"), strict=True):
        flat = np.load(folder / file, allow_pickle=False)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        if len(flat) != offsets[-1]:
            shutil.rmtree(folder)
            raise ModelError(
                f"{folder / file}: {len(flat)} logits for {offsets[-1]} tokens; the damaged file "
                "was removed, run again"
            )
        lists = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat.astype(np.float32)))
        features = features.add_column(column, lists)
    return features


def _key(features: Dataset, teacher: QuestionAnsweringModel) -> str:
    digest = hashlib.sha256(weights_digest(teacher).encode())
    digest.update(np.asarray(features["length"], dtype=np.int64).tobytes())
    for chunk in features.data.table.column("input_ids").chunks:
        digest.update(chunk.flatten().to_numpy().tobytes())
    return digest.hexdigest()[:32]


def _store(folder: Path, start: np.ndarray, end: np.ndarray) -> None:
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    np.save(temporary / "start.npy", start)
    np.save(temporary / "end.npy", end)
    try:
        os.replace(temporary, folder)
    except OSError:  # another process was faster
        shutil.rmtree(temporary)
