"""Hyper-parameters of a training run, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from qaprune_lib.errors import SettingsError, counts, real, short

_COUNTS = ("epochs", "batch_size", "accumulation", "checkpoint_steps")


@dataclass(frozen=True)
class TrainingSettings:
    """Hyper-parameters of one run.

    Attributes:
        epochs: passes over the windows; each leaves out its incomplete last batch.
        max_steps: stop after so many optimizer steps, if that is less; the schedule fits it.
        batch_size: windows in one optimizer step, over all processes and micro-steps.
        accumulation: micro-steps in which each process computes its part of a batch.
        learning_rate: peak; it decays linearly to 0.
        warmup: share of the steps during which the learning rate rises from 0.
        weight_decay: of AdamW, on matrices only.
        max_grad_norm: gradients are clipped at this norm; 0 leaves them.
        dropout: whether the model's dropout is on.
        seed: of the order of batches and of dropout.
        checkpoint_steps: optimizer steps between checkpoints.

    Raises:
        SettingsError: a value that is not a number or out of range.
    """

    epochs: int = 1
    max_steps: int | None = None
    batch_size: int = 24
    accumulation: int = 1
    learning_rate: float = 3e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    dropout: bool = True
    seed: int = 0
    checkpoint_steps: int = 200

    def __post_init__(self) -> None:
        checked = {
            **{name: counts(**{name: getattr(self, name)}) for name in _COUNTS},
            "max_steps": counts(or_none=True, max_steps=self.max_steps),
            "seed": counts(least=0, most=2**32 - 1, seed=self.seed),
        }
        for name, (value,) in checked.items():
            object.__setattr__(self, name, value)  # a plain integer, however it was given
        for name in ("learning_rate", "warmup", "weight_decay", "max_grad_norm"):
            value = getattr(self, name)
            if not 0 <= (number := real(value)) < math.inf:
                raise SettingsError(f"{name}={short(value)} must be a finite number, 0 or more")
            object.__setattr__(self, name, number)
        if self.warmup > 1:
            raise SettingsError(f"warmup={self.warmup} is a share of the steps, at most 1")
        if self.batch_size % self.accumulation:
            raise SettingsError(
                f"batch_size={self.batch_size} is not a multiple of "
                f"accumulation={self.accumulation}"
            )


def with_hyperparameters(settings: TrainingSettings, values: Mapping[str, Any]) -> TrainingSettings:
    """Settings with single values changed.

    Raises:
        SettingsError: there is no such hyper-parameter, or its value is out of range.
    """
    known = [field.name for field in fields(settings)]
    for name in values:
        if name not in known:
            raise SettingsError(f"unknown hyper-parameter {name!r}; there are {', '.join(known)}")
    return replace(settings, **values)
