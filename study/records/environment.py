"""Where a run ran: device, package versions and commit."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TypedDict

PACKAGE = Path(__file__).resolve().parents[1]
PACKAGES = (
    "accelerate",
    "datasets",
    "numpy",
    "onnxruntime",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)


class Environment(TypedDict):
    """The fields of a `Record` that say where it was made."""

    device: str
    packages: dict[str, str]
    commit: str | None


def environment() -> Environment:
    """The device that torch would use, the versions of the packages that matter, the git commit.

    The commit is None outside of a git checkout of this library.
    """
    return Environment(device=device(), packages=packages(), commit=commit())


def device() -> str:
    """The name of the GPU if torch sees one, else the processor's with its number of cores."""
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name()
    return f"{_processor()}, {os.cpu_count()} cores"


def packages() -> dict[str, str]:
    """Versions of Python and of those packages that can change a result, if installed."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def commit() -> str | None:
    """The commit that is checked out in this library's own git repository, if it has one."""
    # inside another project's repository (its virtual environment) git would answer for that one
    found = _git("rev-parse", "--show-toplevel", "HEAD")
    match found:
        case [top, head] if Path(top) == PACKAGE.parent:
            return head
    copied = PACKAGE.parent / "COMMIT"  # of a copy without its repository, made of a clean tree
    return copied.read_text(encoding="utf-8").strip() if copied.is_file() else None


def _git(*arguments: str) -> list[str]:
    try:
        answer = subprocess.run(
            ["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return answer.stdout.splitlines()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
