"""Losses against literal numpy; padding does not enter them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qaprune_lib.errors import SettingsError
from qaprune_lib.training import CrossEntropy, Distillation

MINIMUM = torch.finfo(torch.float32).min


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - x.max() - math.log(np.exp(x - x.max()).sum())


def literal_cross_entropy(start: np.ndarray, end: np.ndarray, s: int, e: int) -> float:
    return -(log_softmax(start)[s] + log_softmax(end)[e]) / 2


def literal_kl(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    q, p = log_softmax(student / temperature), log_softmax(teacher / temperature)
    return float(temperature**2 * (np.exp(p) * (p - q)).sum())


class Example:
    """Rows of different lengths with student and teacher logits of any size."""

    def __init__(self, seed: int, scale: float) -> None:
        rng = np.random.default_rng(seed)
        self.lengths = rng.integers(1, 9, size=4)
        self.logits = {
            name: [scale * rng.standard_normal(n) for n in self.lengths]
            for name in ("start", "end", "teacher_start_logits", "teacher_end_logits")
        }
        self.labels = [(int(rng.integers(n)), int(rng.integers(n))) for n in self.lengths]

    def collated(self, padding: int, *, garbage: float = 50.0) -> dict[str, torch.Tensor]:
        """The batch as a model and the collator give it, in float64."""
        width = int(self.lengths.max()) + padding
        batch: dict[str, torch.Tensor] = {}
        for name, rows in self.logits.items():
            fill = MINIMUM if name.startswith("teacher") else garbage
            batch[name] = torch.full((4, width), fill, dtype=torch.float64)
            for row, values in enumerate(rows):
                batch[name][row, : len(values)] = torch.from_numpy(values)
        batch["attention_mask"] = (
            torch.arange(width) < torch.from_numpy(self.lengths)[:, None]
        ).long()
        batch["start_positions"] = torch.tensor([s for s, _ in self.labels])
        batch["end_positions"] = torch.tensor([e for _, e in self.labels])
        return batch

    def losses(self, objective: Any, padding: int = 0) -> np.ndarray:
        batch = self.collated(padding)
        return objective(batch["start"], batch["end"], batch).numpy()

    def literal(self, weight: float, temperature: float) -> list[float]:
        losses = []
        for row, (s, e) in enumerate(self.labels):
            start, end, teacher_start, teacher_end = (v[row] for v in self.logits.values())
            kl = literal_kl(start, teacher_start, temperature)
            kl = (kl + literal_kl(end, teacher_end, temperature)) / 2
            task = literal_cross_entropy(start, end, s, e)
            losses.append(weight * kl + (1 - weight) * task)
        return losses


EXAMPLES = st.builds(Example, st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 30.0]))


@given(example=EXAMPLES, padding=st.integers(0, 20))
def test_cross_entropy_is_the_literal_one_whatever_the_padding(
    example: Example, padding: int
) -> None:
    found = example.losses(CrossEntropy(), padding)
    np.testing.assert_allclose(found, example.literal(0, 1), rtol=1e-9, atol=1e-12)


@given(
    example=EXAMPLES,
    padding=st.integers(0, 20),
    weight=st.sampled_from([0.0, 0.3, 1.0]),
    temperature=st.sampled_from([0.25, 1.0, 2.0, 8.0]),
)
def test_distillation_is_the_literal_one_whatever_the_padding(
    example: Example, padding: int, weight: float, temperature: float
) -> None:
    found = example.losses(Distillation(weight, temperature), padding)
    expected = example.literal(weight, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@given(example=EXAMPLES, temperature=st.sampled_from([0.25, 1.0, 4.0]))
def test_gradients_are_finite_and_zero_at_padding(example: Example, temperature: float) -> None:
    for objective in (CrossEntropy(), Distillation(0.5, temperature)):
        batch = example.collated(padding=3)
        for dtype in (torch.float64, torch.float32):
            start, end = (batch[n].clone().to(dtype).requires_grad_() for n in ("start", "end"))
            objective(start, end, batch).sum().backward()
            for gradient in (start.grad, end.grad):
                assert gradient is not None
                assert torch.isfinite(gradient).all()
                assert (gradient[batch["attention_mask"] == 0] == 0).all()
                assert float(gradient.sum(-1).abs().max()) < 1e-4  # of a softmax


@given(example=EXAMPLES, temperature=st.sampled_from([0.25, 1.0, 4.0]))
def test_a_teacher_has_nothing_to_teach_itself(example: Example, temperature: float) -> None:
    batch = example.collated(padding=2)
    start, end = (batch[f"teacher_{n}_logits"].clone().requires_grad_() for n in ("start", "end"))
    loss = Distillation(1.0, temperature)(start, end, batch)
    assert (loss == 0).all()
    loss.sum().backward()
    for gradient in (start.grad, end.grad):
        assert gradient is not None
        assert float(gradient.abs().max()) < 1e-12


def test_half_precision_logits_give_losses_in_single_precision() -> None:
    batch = Example(0, 1.0).collated(padding=2)
    start, end = batch["start"].bfloat16(), batch["end"].bfloat16()
    for objective in (CrossEntropy(), Distillation()):
        single = {n: t.float() if t.is_floating_point() else t for n, t in batch.items()}
        found = objective(start, end, single)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, objective(start.float(), end.float(), single))


@pytest.mark.parametrize(
    "settings",
    [(-0.1, 1.0), (1.1, 1.0), (math.nan, 1.0), (1.0, 0.0), (1.0, -1.0), (1.0, math.inf)],
)
def test_settings_out_of_range_are_refused(settings: tuple[float, float]) -> None:
    with pytest.raises(SettingsError, match=r"weight|temperature"):
        Distillation(*settings)
