"""What git knows of a record: the commit that it was made at, and what changed since."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

from qaprune_lib.errors import RecordError

ROOT = Path(__file__).resolve().parents[2]
COPIED = ROOT / "COMMIT"
"""In a copy of a clean tree without its repository: the commit that it was made of."""
LIBRARY = "qaprune_lib"


def commit() -> tuple[str | None, bool]:
    """The commit of this tree, None where git knows none, and whether its files differ from it.

    Records and notes do not count as a difference, nor do files that git does not follow outside
    of the library and the study.
    """
    # inside another project's repository (its virtual environment) git would answer for that one
    match git("rev-parse", "--show-toplevel", "HEAD"):
        case [top, head] if Path(top) == ROOT:
            changed = git("status", "--porcelain", "--", LIBRARY, "study", "notebooks")
            return head, bool(changed)
    if not COPIED.is_file():
        return None, False
    head = COPIED.read_text(encoding="utf-8").strip()
    if not re.fullmatch("[0-9a-f]{7,64}", head):
        raise RecordError(f"{COPIED}: {head!r} is no commit: write the one that was copied there")
    return head, False


@cache
def changed_since(commit: str) -> int | None:
    """How many files of the library differ by now from those of a commit; None if git knows not."""
    lines = git("diff", "--name-only", commit, "--", LIBRARY)
    return None if lines is None else len(lines)


def git(*arguments: str) -> list[str] | None:
    """Lines of git's answer in this project; None where there is no git, or it knows no answer."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.splitlines()
