"""How much faster a model is in bfloat16 on this device: training, gates and decoding.

Windows are random tokens, all of one length. Matrix products are computed in bfloat16, and weights
stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.shared import Measured, Row, clock, load, main, random_batch
from qaprune_lib.evaluation.rounds import in_turns
from qaprune_lib.gates import HardConcrete, Masks, apply_masks
from qaprune_lib.models import QuestionAnsweringModel, shape_of
from qaprune_lib.training.objectives import CrossEntropy, model_inputs

WHY = (
    "the targets are for AMX, which this processor lacks: with AVX512 alone matrix products are "
    "about twice as fast in bfloat16, and all that is no product gains nothing"
)
Step = Callable[[QuestionAnsweringModel, dict[str, torch.Tensor]], None]


def train(model: QuestionAnsweringModel, batch: dict[str, torch.Tensor]) -> None:
    """Forward and backward pass with gradients of all weights."""
    model.requires_grad_(True)
    loss(model, batch).backward()
    model.zero_grad()


def train_gates(model: QuestionAnsweringModel, batch: dict[str, torch.Tensor]) -> None:
    """The same with gradients of gates alone."""
    model.requires_grad_(False)
    gates = HardConcrete(shape_of(model.config).gates("attn")).to(model.device)
    with apply_masks(model, Masks(attn=gates.sample())):
        loss(model, batch).backward()


def decode(model: QuestionAnsweringModel, batch: dict[str, torch.Tensor]) -> None:
    """Forward pass alone."""
    with torch.inference_mode():
        loss(model, batch)


def loss(model: QuestionAnsweringModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of labels at the second token."""
    return CrossEntropy()(model(**model_inputs(batch)), batch).mean()


TARGETS: dict[str, tuple[Step, float]] = {
    "training": (train, 2.0),
    "training gates": (train_gates, 1.8),
    "decoding": (decode, 2.2),
}


def measure(
    *, model: str = "bert-base:4", batch_size: int = 8, length: int = 128, rounds: int = 5
) -> Measured:
    """Of each kind of step the ratio of float32's seconds to bfloat16's, in turns."""
    both: list[Any] = [load(model, compute_dtype=name) for name in ("bfloat16", "float32")]
    batch = random_batch(both[0], batch_size, length)
    rows, has_amx = [], torch.cpu._is_amx_tile_supported()
    for what, (step, least) in TARGETS.items():
        found = in_turns([clock(partial(step, each, batch)) for each in both], rounds)
        row = Row(
            f"{what} in bfloat16, speed",
            f"float32 ({model}, {batch_size} × {length} tokens)",
            found.ratios(1),
            least=least,
            why="" if has_amx else WHY,
            repeated=found.repeated,
        )
        rows.append(row)
    return Measured(rows, {"has_amx": has_amx})


if __name__ == "__main__":
    main(measure)
