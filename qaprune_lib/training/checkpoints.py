"""Folders of checkpoints: whose they are, and which of them are whole.

A checkpoint counts while its files have the digests that were written down when it was complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qaprune_lib.cache import is_intact, output_path, remove, write_atomically
from qaprune_lib.errors import SettingsError, warn

_NAME = re.compile(r"checkpoint-[1-9][0-9]*")


def newest_intact_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; others that are newer are deleted, with a warning."""
    for path in reversed(_numbered(folder)):
        if is_intact(path):
            return path
        warn(f"{path}: cut off or damaged, so it is passed over and deleted")
        remove(path)
    return None


def forget_checkpoints(folder: Path) -> None:
    """Delete the folder of a run that has ended: last of all the file that says whose it is."""
    for path in _numbered(folder):
        remove(path)
    remove(folder)


def _numbered(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first; others' folders of such names are left out."""
    paths = [path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: (len(path.name), path.name))


def make_folder(folder: Path) -> None:
    """Make the folder, if there is none; SettingsError where no folder can be."""
    if output_path(folder).is_file():
        raise SettingsError(f"{folder}: a file stands where a folder must be")
    folder.mkdir(parents=True, exist_ok=True)


def claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Write down which run the folder belongs to, or check that it is this one.

    Raises:
        SettingsError: it is another run's or another program's, or a file.
    """
    text = json.dumps(identity, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = folder / "run.json"
    make_folder(folder)
    if path.is_file():
        if digest.encode() not in path.read_bytes():
            raise SettingsError(
                f"{folder} holds checkpoints of another run (other data, settings or weights); "
                "delete it or choose another folder"
            )
        return
    if os.path.lexists(path) or _numbered(folder):
        raise SettingsError(
            f"{folder} holds checkpoints, but no {path.name} that says whose they are: choose "
            "another folder"
        )
    content = json.dumps({"digest": digest, **json.loads(text)}, indent=1)
    write_atomically(path, content + "\n")
