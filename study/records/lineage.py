"""What git knows of a record: the commit that it was made at, and what changed since."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = "qaprune_lib"


@cache
def changed_since(commit: str) -> int | None:
    """How many files of the library differ by now from those of a commit; None if git knows not."""
    command = ["git", "-C", str(ROOT), "diff", "--name-only", commit, "--", LIBRARY]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return len(answer.stdout.splitlines())
