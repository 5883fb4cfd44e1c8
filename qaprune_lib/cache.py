"""Where things that can be made again are kept, and how files come to be whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO, TypeVar
from uuid import uuid4

from qaprune_lib.errors import SettingsError, short

T = TypeVar("T")
DIGESTS = "digests.json"
"""A file of a folder that holds the digests of its others."""


def cache_root(folder: str | os.PathLike[str] | None = None) -> Path:
    """The given folder, else `$QAPRUNE_CACHE`, else `~/.cache/qaprune`.

    Raises:
        SettingsError: no folder can stand there.
    """
    chosen = folder or os.environ.get("QAPRUNE_CACHE") or "~/.cache/qaprune"
    root = output_path(os.path.expanduser(chosen))
    if root.exists() and not root.is_dir():
        raise SettingsError(f"{root}: a file stands where the folder of the cache must be")
    return root


def output_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path of what will be written.

    Raises:
        SettingsError: nothing can stand there: no name of a file, or one below a file.
    """
    try:
        target = Path(os.path.abspath(path))
        with suppress(FileNotFoundError):
            target.lstat()
    except (OSError, ValueError) as error:
        raise SettingsError(f"{short(os.fspath(path))}: cannot be written: {error}") from error
    return target


def sync(path: Path) -> None:
    """Return when a file's content, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete what stands at a path, of whatever kind, as far as that can be done."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def file_digest(path: Path) -> str:
    """The sha256 of a file's content, as hex; its memory does not grow with the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def open_atomically(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """A text file to write, and its folder if there is none: whole and on the disk, or not at all.

    It gets its name where the block ends; a block that raises leaves no trace.
    """
    target = output_path(path)
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


def write_digests(folder: Path, files: Iterable[Path] | None = None) -> None:
    """Write down the digests of files of a folder (default: all), once they are on the disk."""
    files = list(folder.rglob("*") if files is None else files)
    digests = {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in files
        if path.is_file() and path != folder / DIGESTS
    }
    for path in (*files, folder):
        sync(path)
    write_atomically(folder / DIGESTS, json.dumps(digests, indent=1))


def is_intact(folder: Path) -> bool:
    """Whether the files of a folder are those whose digests were written down there."""
    try:
        if not (folder / DIGESTS).is_file():  # a pipe would never end
            return False
        digests = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        return bool(digests) and all(
            (folder / name).is_file() and file_digest(folder / name) == digest
            for name, digest in digests.items()
        )
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False


def read_or_build(target: Path, build: Callable[[Path], object], read: Callable[[Path], T]) -> T:
    """What `read` finds in the folder `target`, which is made first, or again if it is damaged.

    Args:
        target: whole and as it was written, or made anew.
        build: fills an empty folder.
        read: what is asked for, from an intact folder.

    Processes that ask for it at once wait for the first of them.
    """
    from filelock import FileLock  # here, as the report does without it

    if is_intact(target):
        return read(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f"{target.name}.lock")):
        if not is_intact(target):
            partial = target.with_name(f"{target.name}.partial")
            remove(partial)
            partial.mkdir()
            try:
                build(partial)
                write_digests(partial)
                remove(target)
                os.replace(partial, target)
                sync(target.parent)
            finally:
                remove(partial)
        return read(target)


def build_once(target: Path, build: Callable[[Path], object]) -> Path:
    """The folder `target`, made first if it is not there or damaged, as in `read_or_build`."""
    return read_or_build(target, build, lambda folder: folder)
