"""What a book is made of, as one digest: a book that was built of the same is not built again."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

PARTS = (
    *("_config.yml", "_toc.yml", "requirements.lock", "requirements-book.lock"),
    *("book/**/*", "notebooks/report/*.ipynb", "profiles/*.yml", "qaprune_lib/**/*.py"),
)
"""Files of a checkout that a book depends on, beside the records."""

STAMP = "inputs.txt"
"""File beside a built book that holds the digest of what it was built of."""


def inputs_digest(root: Path, results: Path) -> str:
    """SHA-256 (hex) over names and contents of all that a book depends on."""
    digest = hashlib.sha256(sys.version.encode())
    for name, path in _files(root, results):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _files(root: Path, results: Path) -> Iterator[tuple[str, Path]]:
    for folder, patterns in ((root, PARTS), (results, ("**/*",))):
        found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
        for path in sorted(found):
            name = path.relative_to(folder)
            if not {"_generated", "__pycache__"} & set(name.parts):
                yield name.as_posix(), path
