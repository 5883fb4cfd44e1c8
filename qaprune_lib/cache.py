"""Where things that can be made again are kept."""

from __future__ import annotations

import os
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
