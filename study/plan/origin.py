"""Where questions come from: an identity for each source, that a moved copy of its files keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

from qaprune_lib.errors import DataError
from study.plan.parameters import TaskName

DIGITS = 16


def files_of(
    source: str,
    task: TaskName,
    *,
    version: Literal["1.1", "2.0"] | None = None,
    files: Sequence[str] = (),
) -> list[Path]:
    """The files that are read of a folder or a file; none of the corpus and of a Hub id.

    Args:
        source: as of a stage.
        task: whose files are looked for in a folder.
        version: of SQuAD, where a folder holds both.
        files: of a folder, if they are named.

    Raises:
        DataError: a folder without the files that are looked for.
    """
    from qaprune_lib.data import natural_questions, squad

    path = Path(source).expanduser()
    if source == "embedded" or not path.exists():
        return []
    if path.is_file():
        return [path]
    if files:
        return [path / name for name in files]
    if task == "squad":
        return sorted(squad._files_of_folder(path, version).values())
    return sorted(natural_questions._files_of_folder(path))


def origin_of(source: str, files: Sequence[Path]) -> str:
    """`embedded`, `hub:ID`, or `files:` with a digest of the bytes of the files that are read.

    Raises:
        DataError: a file that cannot be read.
    """
    if not files:
        return source if source == "embedded" else f"hub:{source}"
    digest = hashlib.sha256()
    for file in files:
        try:
            digest.update(_digest(file, file.stat().st_mtime_ns, file.stat().st_size))
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    return f"files:{digest.hexdigest()[:DIGITS]}"


def described(source: str, files: Sequence[Path]) -> str:
    """The source for a record: `embedded`, a Hub id, or the names of the files without a folder."""
    return ", ".join(file.name for file in files) or source


@lru_cache
def _digest(path: Path, changed: int, size: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
