"""Where questions come from: an identity for each source, that a moved copy of its files keeps."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from qaprune_lib.cache import file_digest
from qaprune_lib.errors import DataError, SettingsError
from study.plan.parameters import TaskName, Version

DIGITS = 16
HUB_ID = r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?"


def files_of(
    source: str, task: TaskName, *, version: Version | None = None, files: Sequence[str] = ()
) -> list[Path]:
    """The files that are read of a source, if they are named those; none of corpus and Hub id."""
    path = Path(os.path.expanduser(source))
    if source == "embedded":
        return []
    if not os.path.exists(path):  # Path.exists raises where a name is too long
        if re.fullmatch(HUB_ID, source):
            return []
        raise DataError(f"{source:.300}: no such file or folder of questions, and no Hub id")
    if path.is_file():
        return [path]
    if files:
        return [path / name for name in files]

    from qaprune_lib.data.natural_questions import stream
    from qaprune_lib.data.squad import questions

    if task == "squad":
        found = questions.files_of_folder(path, version)
        return sorted(file for files in found.values() for file in files)
    return sorted(stream.files_of_folder(path))


def origin_of(source: str, files: Sequence[Path]) -> str:
    """`embedded`, `hub:ID`, or `files:` with a digest of the bytes of the files that are read."""
    if not files:
        return source if source == "embedded" else f"hub:{source}"
    digest = hashlib.sha256()
    for file in files:
        try:
            content = _digest(file, file.stat().st_mtime_ns, file.stat().st_size)
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror}") from error
        digest.update(bytes.fromhex(content))
    return f"files:{digest.hexdigest()[:DIGITS]}"


def check_origin(source: str, found: str, expected: str) -> None:
    """Raise SettingsError, which names both, if questions are of another origin than expected."""
    if expected not in ("", found):
        raise SettingsError(
            f"{source}: these are other questions (origin {found}) than those asked for "
            f"({expected}): give them a name of their own, or find the others"
        )


def described(source: str, files: Sequence[Path]) -> str:
    """The source for a record: `embedded`, a Hub id, or the names of the files without a folder."""
    return ", ".join(file.name for file in files) or source


@lru_cache
def _digest(path: Path, changed: int, size: int) -> str:
    return file_digest(path)
