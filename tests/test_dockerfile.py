"""What the Dockerfile copies is there, and what it installs comes from the lock."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8")).split(
        "\n"
    )
    if line and not line.startswith("#")
]


def arguments(instruction: str) -> list[str]:
    return [rest for name, rest in INSTRUCTIONS if name == instruction]


def patterns(file: str) -> set[str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return {line.removeprefix("**/").strip("/") for line in lines if line and line[0] != "#"}


def test_copied_paths_exist() -> None:
    copied = [shlex.split(line) for line in arguments("COPY")]
    sources = [path for words in copied for path in words[:-1] if not path.startswith("--")]
    assert sources
    assert all((ROOT / path).exists() for path in sources)


def test_only_what_git_ignores_is_left_out() -> None:
    """Else git calls the tree in the image dirty, and no measured record can be made there."""
    assert patterns(".dockerignore") == patterns(".gitignore")


def test_packages_come_from_the_lock() -> None:
    installs = [command for line in arguments("RUN") for command in line.split("&&")]
    installs = [command for command in installs if re.search(r"\bpip3? +install|\buv\b", command)]
    assert [command.split("install")[1].split() for command in installs] == [
        ["-r", "requirements.lock"]
    ]


def test_runs_without_root() -> None:
    assert arguments("USER")[-1] not in ("root", "0")
