"""Attention of models that train in bfloat16 on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode


class AttentionInFloat32(TorchFunctionMode):
    """Within it attention is computed in float32, whatever is autocast, and returned as it came.

    torch's backward pass of it in bfloat16 takes a multiple of the time on a CPU, with AMX half of
    a training step (`benchmarks/compute_dtype.py`). Forward passes alone gain nothing.

    >>> q = torch.ones(1, 1, 2, 4, dtype=torch.bfloat16)
    >>> with torch.autocast("cpu"), AttentionInFloat32():
    ...     scaled_dot_product_attention(q, q, q).dtype
    torch.bfloat16
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is not scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        given = args[0] if args else (kwargs or {})["query"]
        wide = [_float32(value) for value in args]
        named = {name: _float32(value) for name, value in (kwargs or {}).items()}
        with torch.autocast("cpu", enabled=False):
            return func(*wide, **named).to(given.dtype)


def _float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.float()
    return value
