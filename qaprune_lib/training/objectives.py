"""Losses of span extraction: cross-entropy and distillation (paper section 3.4).

Logits at padding are set to the dtype's minimum, so that a loss does not depend on how a batch is
padded; the loss that transformers computes itself is not used, since it lets padding in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from qaprune_lib.errors import SettingsError

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def model_inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a collated batch that a model's forward pass takes."""
    return {name: batch[name] for name in MODEL_INPUTS if name in batch}


def without_padding(logits: Tensor, attention_mask: Tensor) -> Tensor:
    """Logits [batch, length] in float32 at least, at the dtype's minimum where there is padding."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.masked_fill(attention_mask == 0, torch.finfo(logits.dtype).min)


class Objective(Protocol):
    """A loss of each window, [batch]; what is trained is its mean over the batch."""

    def __call__(self, start: Tensor, end: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Loss of each window from start and end logits [batch, length]."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """Mean of the cross-entropies of the start and the end position."""

    def __call__(self, start: Tensor, end: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Loss of each window, [batch], in nats."""
        mask = batch["attention_mask"]
        losses = [
            functional.cross_entropy(without_padding(logits, mask), labels, reduction="none")
            for logits, labels in (
                (start, batch["start_positions"]),
                (end, batch["end_positions"]),
            )
        ]
        return (losses[0] + losses[1]) / 2


@dataclass(frozen=True)
class Distillation:
    """w·T²·KL(teacher ‖ student) at temperature T, plus (1 − w)·cross-entropy.

    The divergence is the mean of start and end. The paper gives neither T nor w and says that the
    cross-entropy "may be replaced": the defaults are w = 1, T = 1. Batches must bring
    `teacher_start_logits` and `teacher_end_logits`, [batch, length].

    Raises:
        SettingsError: w outside of [0, 1], or a temperature that is not positive.
    """

    weight: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise SettingsError(f"distillation weight={self.weight} must be between 0 and 1")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise SettingsError(f"temperature={self.temperature} must be a positive number")

    def __call__(self, start: Tensor, end: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Loss of each window, [batch], in nats."""
        divergence = [
            self._divergence(student, batch[teacher], batch["attention_mask"])
            for student, teacher in (
                (start, "teacher_start_logits"),
                (end, "teacher_end_logits"),
            )
        ]
        loss = self.weight * (divergence[0] + divergence[1]) / 2
        if self.weight < 1:
            loss = loss + (1 - self.weight) * CrossEntropy()(start, end, batch)
        return loss

    def _divergence(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        log_student = functional.log_softmax(
            without_padding(student, mask) / self.temperature, dim=-1
        )
        log_teacher = functional.log_softmax(
            without_padding(teacher, mask) / self.temperature, dim=-1
        )
        terms = log_teacher.exp() * (log_teacher - log_student)
        # both are about the dtype's minimum at padding, and their difference is not a number there
        terms = terms.masked_fill(mask == 0, 0.0)
        return self.temperature**2 * terms.sum(-1)
