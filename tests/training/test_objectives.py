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
TYPES = 5


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - x.max() - math.log(np.exp(x - x.max()).sum())


def literal_kl(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    q, p = log_softmax(student / temperature), log_softmax(teacher / temperature)
    return float(temperature**2 * (np.exp(p) * (p - q)).sum())


class Example:
    """Rows of different lengths with logits of any size, of a student and of a teacher."""

    def __init__(self, seed: int, scale: float, *, has_types: bool) -> None:
        rng = np.random.default_rng(seed)
        self.lengths = rng.integers(1, 9, size=4)
        sizes = {"start": self.lengths, "end": self.lengths}
        if has_types:
            sizes["answer_type"] = np.full(4, TYPES)
        self.student, self.teacher = (
            {k: [scale * rng.standard_normal(n) for n in ns] for k, ns in sizes.items()}
            for _ in range(2)
        )
        self.labels = {k: [int(rng.integers(n)) for n in ns] for k, ns in sizes.items()}

    def _padded(self, rows: list[np.ndarray], width: int, fill: float) -> torch.Tensor:
        padded = torch.full((4, width), fill, dtype=torch.float64)
        for row, values in zip(padded, rows, strict=True):
            row[: len(values)] = torch.from_numpy(values)
        return padded

    def outputs(self, padding: int, *, garbage: float = 50.0) -> dict[str, torch.Tensor]:
        """The student's logits as a model gives them, in float64."""
        width = int(self.lengths.max()) + padding
        return {
            f"{name}_logits": self._padded(rows, TYPES if name == "answer_type" else width, garbage)
            for name, rows in self.student.items()
        }

    def batch(self, padding: int) -> dict[str, torch.Tensor]:
        """What the collator gives, the teacher's logits in float64."""
        width = int(self.lengths.max()) + padding
        plural = {"start": "start_positions", "end": "end_positions", "answer_type": "answer_types"}
        mask = torch.arange(width) < torch.from_numpy(self.lengths)[:, None]
        return {
            "attention_mask": mask.long(),
            **{plural[name]: torch.tensor(labels) for name, labels in self.labels.items()},
            **{
                f"teacher_{name}_logits": self._padded(
                    rows, TYPES if name == "answer_type" else width, MINIMUM
                )
                for name, rows in self.teacher.items()
            },
        }

    def losses(self, objective: Any, padding: int = 0) -> np.ndarray:
        return objective(self.outputs(padding), self.batch(padding)).numpy()

    def literal(self, weight: float, temperature: float) -> list[float]:
        losses = []
        for row in range(4):
            parts = []
            for name, rows in self.student.items():
                kl = literal_kl(rows[row], self.teacher[name][row], temperature)
                task = -log_softmax(rows[row])[self.labels[name][row]]
                parts.append(weight * kl + (1 - weight) * task)
            losses.append(float(np.mean(parts)))
        return losses


EXAMPLES = st.builds(
    Example, st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 30.0]), has_types=st.booleans()
)


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
        batch = example.batch(padding=3)
        for dtype in (torch.float64, torch.float32):
            outputs = {
                name: logits.to(dtype, copy=True).requires_grad_()
                for name, logits in example.outputs(padding=3).items()
            }
            objective(outputs, batch).sum().backward()
            for name, logits in outputs.items():
                gradient = logits.grad
                assert gradient is not None
                assert torch.isfinite(gradient).all()
                if name != "answer_type_logits":
                    assert (gradient[batch["attention_mask"] == 0] == 0).all()
                assert float(gradient.sum(-1).abs().max()) < 1e-4  # of a softmax


@given(example=EXAMPLES, temperature=st.sampled_from([0.25, 1.0, 4.0]))
def test_a_teacher_has_nothing_to_teach_itself(example: Example, temperature: float) -> None:
    batch = example.batch(padding=2)
    outputs = {
        f"{name}_logits": batch[f"teacher_{name}_logits"].clone().requires_grad_()
        for name in example.student
    }
    loss = Distillation(1.0, temperature)(outputs, batch)
    assert (loss == 0).all()
    loss.sum().backward()
    for logits in outputs.values():
        assert logits.grad is not None
        assert float(logits.grad.abs().max()) < 1e-12


def test_half_precision_logits_give_losses_in_single_precision() -> None:
    example = Example(0, 1.0, has_types=True)
    batch = {n: t.float() if t.is_floating_point() else t for n, t in example.batch(2).items()}
    outputs = {name: logits.bfloat16() for name, logits in example.outputs(2).items()}
    for objective in (CrossEntropy(), Distillation()):
        found = objective(outputs, batch)
        assert found.dtype == torch.float32
        single = {name: logits.float() for name, logits in outputs.items()}
        torch.testing.assert_close(found, objective(single, batch))


@pytest.mark.parametrize(
    "settings",
    [(-0.1, 1.0), (1.1, 1.0), (math.nan, 1.0), (1.0, 0.0), (1.0, -1.0), (1.0, math.inf)],
)
def test_settings_out_of_range_are_refused(settings: tuple[float, float]) -> None:
    with pytest.raises(SettingsError, match=r"weight|temperature"):
        Distillation(*settings)
