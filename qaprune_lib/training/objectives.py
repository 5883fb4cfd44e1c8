"""Losses of question answering: cross-entropy and distillation (paper section 3.4).

A loss is the mean over what a model says of a window: where the answer starts, where it ends and,
for Natural Questions, of which type it is. Logits at padding are set to the dtype's minimum, so
that a loss does not depend on how a batch is padded; the loss that transformers computes itself is
not used, since it lets padding in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from qaprune_lib.errors import SettingsError, real, short
from qaprune_lib.models import HEADS

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TARGETS: Mapping[str, str] = {
    "start_logits": "start_positions",
    "end_logits": "end_positions",
    "answer_type_logits": "answer_types",
}
"""Logits that models give, and the labels in a batch that they are compared with."""
_OVER_POSITIONS = HEADS["natural_questions"].positions


def model_inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a collated batch that a model's forward pass takes."""
    return {name: batch[name] for name in MODEL_INPUTS if name in batch}


def teacher_column(logits: str) -> str:
    """The column of windows that holds a teacher's logits."""
    return f"teacher_{logits}"


@dataclass(frozen=True)
class CrossEntropy:
    """Mean of the cross-entropies of the start, the end and, if any, the answer type."""

    def __call__(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Loss of each window, [batch], in nats."""
        losses = [
            functional.cross_entropy(
                _prepared(name, outputs[name], batch), batch[TARGETS[name]], reduction="none"
            )
            for name in _given(outputs)
        ]
        return torch.stack(losses).mean(0)


@dataclass(frozen=True)
class Distillation:
    """w·T²·KL(teacher ‖ student) at temperature T, plus (1 − w)·cross-entropy.

    The divergence is the mean of those of the start, the end and, if any, the answer type. The
    paper gives neither T nor w and says that the cross-entropy "may be replaced": the defaults are
    w = 1, T = 1. Batches must bring the teacher's logits under the names of `teacher_column`,
    [batch, length] or, of the answer type, [batch, 5].

    hidden: of `retrain`, adds so many times the distance of the layers' outputs to those of the
    model that was pruned (`qaprune_lib.training.hidden`); not in the paper.

    Raises:
        SettingsError: w outside of [0, 1], a temperature that is not positive, or a negative
            `hidden`.
    """

    weight: float = 1.0
    temperature: float = 1.0
    hidden: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= (weight := real(self.weight)) <= 1:
            raise SettingsError(f"distillation weight={short(self.weight)} must be between 0 and 1")
        if not 0 < (temperature := real(self.temperature)) < math.inf:
            raise SettingsError(f"temperature={short(self.temperature)} must be a positive number")
        if not 0 <= (hidden := real(self.hidden)) < math.inf:
            raise SettingsError(f"hidden={short(self.hidden)} must be a finite number, 0 or more")
        checked = {"weight": weight, "temperature": temperature, "hidden": hidden}
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __call__(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Loss of each window, [batch], in nats."""
        divergences = [
            self._divergence(name, outputs[name], batch[teacher_column(name)], batch)
            for name in _given(outputs)
        ]
        loss = self.weight * torch.stack(divergences).mean(0)
        if self.weight < 1:
            loss = loss + (1 - self.weight) * CrossEntropy()(outputs, batch)
        return loss

    def _divergence(
        self, name: str, student: Tensor, teacher: Tensor, batch: Mapping[str, Tensor]
    ) -> Tensor:
        log_student, log_teacher = (
            functional.log_softmax(_prepared(name, logits, batch) / self.temperature, dim=-1)
            for logits in (student, teacher)
        )
        terms = log_teacher.exp() * (log_teacher - log_student)
        if name in _OVER_POSITIONS:
            # both are about the dtype's minimum at padding, and their difference is not a number
            terms = terms.masked_fill(batch["attention_mask"] == 0, 0.0)
        return self.temperature**2 * terms.sum(-1)


def drawn_labels(
    outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor], generator: torch.Generator
) -> dict[str, Tensor]:
    """Labels of each window [batch], drawn from the probabilities that a model gives them."""
    drawn = {}
    for name in _given(outputs):
        logits = _prepared(name, outputs[name].detach(), batch)
        # the largest of logits with Gumbel noise: such draws have the softmax's probabilities, and
        # noise of the generator's device is the same on every device
        noise = -torch.empty(logits.shape).exponential_(generator=generator).log()
        drawn[TARGETS[name]] = (logits + noise.to(logits)).argmax(-1)
    return drawn


def _given(outputs: Mapping[str, Tensor]) -> list[str]:
    return [name for name in TARGETS if name in outputs]


def _prepared(name: str, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Logits in float32 at least, at the dtype's minimum where there is padding."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if name not in _OVER_POSITIONS:
        return logits
    return logits.masked_fill(batch["attention_mask"] == 0, torch.finfo(logits.dtype).min)
