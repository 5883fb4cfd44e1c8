"""Where things that can be made again are kept, and how files come to be whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar
from uuid import uuid4

from qaprune_lib.errors import QapruneError

T = TypeVar("T")
COMPLETE = "complete.json"  # digests of the other files of a folder


def cache_root(folder: str | os.PathLike[str] | None = None) -> Path:
    """The given folder, else `$QAPRUNE_CACHE`, else `~/.cache/qaprune`."""
    return Path(folder or os.environ.get("QAPRUNE_CACHE") or "~/.cache/qaprune").expanduser()


def sync(path: Path) -> None:
    """Return when a file's content, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> str:
    """The sha256 of a file's content, as hex; its memory does not grow with the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def open_atomically(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """A text file to write, and its folder if there is none: whole and on the disk, or not at all.

    It gets its name where the block ends; a block that raises leaves no trace.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            yield file
        sync(temporary)
        os.replace(temporary, target)
        sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, and its folder if there is none: whole and on the disk, or not at all."""
    with open_atomically(path) as file:
        file.write(text)


def read_or_build(
    target: Path, build: Callable[[Path], object], read: Callable[[Path], T | None]
) -> T:
    """What `read` finds in the folder `target`, made first where it finds nothing.

    Args:
        target: whole, or not there at all.
        build: fills an empty folder with files, whose digests are kept with them.
        read: gives None for a folder that is absent or damaged, which is then made again.

    Processes that ask for it at once wait for the first of them.
    """
    from filelock import FileLock  # here, as the report does without it

    found = read(target)
    if found is not None:
        return found
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f"{target.name}.lock")):
        found = read(target)
        if found is not None:
            return found
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            build(partial)
            digests = {path.name: file_digest(path) for path in partial.iterdir()}
            (partial / COMPLETE).write_text(json.dumps(digests))
            for path in (*partial.iterdir(), partial):
                sync(path)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(partial, target)
            sync(target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    found = read(target)
    if found is None:
        raise QapruneError(f"{target}: what was just written there cannot be read back")
    return found


def is_complete(folder: Path) -> bool:
    """Whether a folder that `read_or_build` made holds its files as they were written."""
    try:
        digests: dict[str, str] = json.loads((folder / COMPLETE).read_text())
        return bool(digests) and all(
            file_digest(folder / name) == digest for name, digest in digests.items()
        )
    except (OSError, ValueError, AttributeError):
        return False


def build_once(
    target: Path,
    build: Callable[[Path], None],
    *,
    is_intact: Callable[[Path], bool] = is_complete,
) -> Path:
    """The folder `target`, made first if it is not there or not intact, as in `read_or_build`."""
    return read_or_build(target, build, lambda folder: folder if is_intact(folder) else None)
