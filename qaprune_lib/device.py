"""The device at hand: what it is called, and when it has done its work."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_IN_TURNS = Lock()


def processor_name() -> str:
    """The model of the CPU, as its system calls it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """Name of a GPU, or "cpu" with its model and vector instructions."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu ({processor_name()}, {torch.backends.cpu.get_cpu_capability()})"
    return str(device)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given; a CPU always has."""
    import torch

    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@contextmanager
def one_thread() -> Iterator[None]:
    """A block of many small products and factors: on busy cores threads only wait for each other.

    The number that torch had comes back. Blocks of several threads take turns, as the number is
    the process's: the later of two would restore a 1.
    """
    import torch

    with _IN_TURNS:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16; without, float32 is several times as fast."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and platform.machine().lower() in {"x86_64", "amd64"}:
        return torch.cpu._is_avx512_bf16_supported()
    return True
