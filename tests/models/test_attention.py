"""Attention of training in bfloat16 on a CPU against float32's."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from qaprune_lib.models import pruned
from qaprune_lib.models.attention import AttentionInFloat32
from tests.models.tiny import tiny_model


@pytest.mark.parametrize("masked", [False, True])
def test_it_is_float32s_rounded_once(masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(2, 3, 5, 8, generator=generator).bfloat16().requires_grad_() for _ in range(3)
    )
    mask = torch.randn(2, 1, 5, 5, generator=generator) if masked else None
    with torch.autocast("cpu"), AttentionInFloat32():
        found = scaled_dot_product_attention(q, k, value=v, attn_mask=mask, scale=0.3)
        assert (q @ k.mT).dtype == torch.bfloat16  # nothing else is touched
    weights = q.double() @ k.double().mT * 0.3 + (0 if mask is None else mask.double())
    expected = weights.softmax(-1) @ v.double()
    assert found.dtype == torch.bfloat16
    assert (found.double() - expected).abs().max() <= expected.abs().max() * 2**-8
    found.sum().backward()
    gradients = torch.autograd.grad(expected.sum(), [q, k, v])
    for given, right in zip((q, k, v), gradients, strict=True):
        assert given.grad is not None
        assert torch.allclose(given.grad.float(), right.float(), rtol=2**-6, atol=2**-8)


def test_it_is_for_training_in_bfloat16_on_a_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def mode() -> Any:
        begun.append(True)
        return contextlib.nullcontext()

    monkeypatch.setattr(pruned, "AttentionInFloat32", mode)
    model, ids = tiny_model("bert"), torch.ones(1, 4, dtype=torch.int64)
    for dtype in ("float32", "bfloat16"):
        model.compute_dtype = dtype  # type: ignore[assignment]
        with torch.no_grad():
            model(input_ids=ids)
        assert not begun
        model(input_ids=ids)
    assert begun == [True]
