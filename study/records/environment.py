"""Where a run ran: device, package versions and commit."""

from __future__ import annotations

import importlib.util
import os
import platform
from contextlib import suppress
from importlib import metadata
from typing import TypedDict

from qaprune_lib.device import processor_name
from study.records.lineage import commit

PACKAGES = (
    *("accelerate", "datasets", "numpy", "onnxruntime", "openvino", "safetensors"),
    *("tokenizers", "torch", "transformers"),
)
AT_ONCE = "QAPRUNE_RUNS_AT_ONCE"
"""Environment variable: how many runs share the device, where it is more than one."""


class Environment(TypedDict):
    """The fields of a `Record` that say where it was made."""

    device: str
    packages: dict[str, str]
    commit: str | None
    dirty: bool


def environment() -> Environment:
    """The device that torch would use, the packages that matter, and the commit of this tree."""
    head, dirty = commit()
    return Environment(device=device(), packages=packages(), commit=head, dirty=dirty)


def device() -> str:
    """The GPU if torch sees one, else the processor with its cores; and how many runs share it."""
    name = f"{processor_name()}, {os.cpu_count()} cores"
    if importlib.util.find_spec("torch") is not None:
        import torch

        name = torch.cuda.get_device_name() if torch.cuda.is_available() else name
    return name + (f", {os.environ[AT_ONCE]} runs at once" if AT_ONCE in os.environ else "")


def packages() -> dict[str, str]:
    """Versions of Python and of those packages that can change a result, if installed."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
