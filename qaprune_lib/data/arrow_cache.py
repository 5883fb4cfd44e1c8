"""A data set kept on disk, that is either complete and unchanged or built again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, Features, concatenate_datasets
from filelock import FileLock

from qaprune_lib.cache import sync
from qaprune_lib.errors import DataError

_COMPLETE = "complete.json"  # written last: the digest of every file


def read_or_build(folder: Path, build: Callable[[str], Dataset]) -> Dataset:
    """The data set kept in ``folder``, built first if it is not there, torn or changed.

    Args:
        folder: where it is kept; its name tells one data set from another.
        build: maps some data set with ``cache_file_name`` set to its argument.

    Processes that ask for the same folder at once wait for the first of them.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        kept = _read(folder)
        if kept is None:
            _write(folder, build)
            kept = _read(folder)
    if kept is None:
        raise DataError(f"{folder}: what was just written there cannot be read back")
    return kept


def write_stream(file: str, features: Features, tables: Iterable[pa.Table]) -> Dataset:
    """Write ``tables`` to ``file`` as they come, so that memory holds one of them at a time."""
    schema = features.arrow_schema
    with pa.OSFile(file, "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for table in tables:
            writer.write_table(table.cast(schema))
    return Dataset.from_file(file)


def _read(folder: Path) -> Dataset | None:
    """The data set in ``folder``, or None unless every file is as it was written."""
    try:
        digests: dict[str, str] = json.loads((folder / _COMPLETE).read_text())
        if any(_file_digest(folder / name) != digest for name, digest in digests.items()):
            return None
        return concatenate_datasets([Dataset.from_file(str(folder / name)) for name in digests])
    except (OSError, ValueError, AttributeError):
        return None


def _write(folder: Path, build: Callable[[str], Dataset]) -> None:
    partial = folder.with_suffix(".partial")
    for leftover in (partial, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    built = build(str(partial / "rows.arrow"))
    files = [Path(file["filename"]) for file in built.cache_files]
    complete = partial / _COMPLETE
    complete.write_text(json.dumps({file.name: _file_digest(file) for file in files}))
    for path in (*files, complete, partial):
        sync(path)
    os.replace(partial, folder)
    sync(folder.parent)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
