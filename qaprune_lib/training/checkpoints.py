"""Folders of checkpoints: whose they are, and which of them are whole.

A checkpoint counts once a marker, written last, says that it is complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qaprune_lib.cache import sync, write_atomically
from qaprune_lib.errors import SettingsError

COMPLETE = "complete"


def newest_complete_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint with its marker; torn ones, newer than it, are deleted."""
    numbered = sorted(
        (path for path in folder.glob("checkpoint-*") if path.name.split("-")[1].isdigit()),
        key=lambda path: int(path.name.split("-")[1]),
        reverse=True,
    )
    for path in numbered:
        if (path / COMPLETE).is_file():
            return path
        shutil.rmtree(path, ignore_errors=True)
    return None


def claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Write down which run the folder belongs to, or check that it is this one.

    Raises:
        SettingsError: it is another run's.
    """
    text = json.dumps(identity, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = folder / "run.json"
    folder.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        if digest not in path.read_text():
            raise SettingsError(
                f"{folder} holds checkpoints of another run (other data, settings or weights); "
                "delete it or choose another folder"
            )
        return
    content = json.dumps({"digest": digest, **json.loads(text)}, indent=1)
    write_atomically(path, content + "\n")


def mark_complete(folder: Path) -> None:
    """Say that all of a checkpoint is on disk, once it is."""
    for path in folder.rglob("*"):
        if path.is_file():
            sync(path)
    sync(folder)
    (folder / COMPLETE).touch()
    sync(folder)
