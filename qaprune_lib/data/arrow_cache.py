"""Data sets kept on disk: each is complete and unchanged, or made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features

from qaprune_lib.cache import cache_root, read_or_build

_ROWS = "rows.arrow"


def kept_dataset(
    kind: str,
    depends_on: Mapping[str, Any],
    features: Features,
    tables: Iterable[pa.Table],
    cache_dir: Path | None = None,
) -> Dataset:
    """The data set of these tables, made once.

    Args:
        kind: folder of the cache.
        depends_on: all that makes the tables, beside the sources of this package.
        features: of the data set.
        tables: read where there is no such data set, or a damaged one; memory holds one at a time.
        cache_dir: default ``$QAPRUNE_CACHE`` or ``~/.cache/qaprune``.
    """
    parts = json.dumps({"source": source_digest(), **depends_on}, sort_keys=True)
    key = hashlib.sha256(parts.encode()).hexdigest()[:40]

    def build(folder: Path) -> None:
        schema = features.arrow_schema
        with (
            pa.OSFile(str(folder / _ROWS), "wb") as sink,
            pa.ipc.new_stream(sink, schema) as writer,
        ):
            for table in tables:
                writer.write_table(table.cast(schema))

    def read(folder: Path) -> Dataset:
        return Dataset.from_file(str(folder / _ROWS))

    return read_or_build(cache_root(cache_dir) / kind / key, build, read)


def column(dataset: Dataset, name: str) -> np.ndarray:
    """A column of numbers, without a detour through Python objects."""
    return np.asarray(dataset.select_columns([name]).with_format("arrow")[:][name])


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Digest (hex) of this package's sources, on which all that it keeps depends."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for source in sorted([*folder.rglob("*.py"), *folder.rglob("*.toml")]):
        digest.update(str(source.relative_to(folder)).encode() + source.read_bytes())
    return digest.hexdigest()
