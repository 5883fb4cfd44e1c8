"""Where things that can be made again are kept, and how files come to be whole."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path


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


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, and its folder if there is none: whole and on the disk, or not at all."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    sync(temporary)
    os.replace(temporary, target)


def build_once(
    target: Path, build: Callable[[Path], None], *, is_intact: Callable[[Path], bool] = Path.is_dir
) -> Path:
    """The folder `target`, made first if it is not there or not intact: whole, or not at all.

    `build` fills an empty folder. Processes that ask for it at once wait for the first of them.
    """
    from filelock import FileLock  # here, as the report does without it

    if is_intact(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f"{target.name}.lock")):
        if is_intact(target):
            return target
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            build(partial)
            for path in (*partial.iterdir(), partial):
                sync(path)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(partial, target)
            sync(target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target
