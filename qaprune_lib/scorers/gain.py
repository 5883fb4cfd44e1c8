"""Gain: the mean absolute gradient of the loss at a gate (paper section 3.2, Eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from datasets import Dataset

from qaprune_lib.data.tasks import QuestionData
from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import SettingsError
from qaprune_lib.evaluation.logits import features_for
from qaprune_lib.models import QuestionAnsweringModel, shape_of
from qaprune_lib.scorers.gradients import gate_gradients, summed_gradients
from qaprune_lib.scorers.registry import scorer
from qaprune_lib.scorers.scores import GateScores, check_kinds, warn_if_untrained

MAX_GATES_AT_ZERO = 512


@scorer("gain", order=2)
def gain(
    model: QuestionAnsweringModel,
    dataset: QuestionData,
    *,
    kinds: Sequence[str] = ("attn", "ff"),
    at: Literal[0, 1] = 1,
    normalize: bool = False,
    windows: Windows | None = None,
) -> GateScores:
    """Mean over windows of |∂ loss / ∂ γ|, the "head importance score".

    Args:
        model: fine-tuned.
        dataset: questions; on well-fitted training data the gradient is close to noise.
        kinds: kinds of gates to score.
        at: the paper's Eq. (1) takes the derivative at γ = 0, Michel et al. (2019) at γ = 1. At 0
            each gate needs a pass of its own, with the other gates at 1.
        normalize: divide each layer's scores by their L2 norm, as Michel et al. do.
        windows: as for `finetune`.

    Raises:
        SettingsError: an unknown kind, or `at=0` for more gates than that many passes are sensible
            for.
        DataError: an empty data set.

    Warns:
        QapruneWarning: the head was never trained.

    >>> from qaprune_lib import load_model, load_squad
    >>> model, train = load_model("embedded-small", device="cpu"), load_squad("embedded")["train"]
    >>> gain(model, train.select(range(2)), kinds=["attn"], windows=Windows(96)).get("attn").shape
    (3, 12)
    """
    if at not in (0, 1):
        raise SettingsError(f"gain at={at}: the derivative is taken at 0 or at 1")
    check_kinds(kinds)
    features = features_for(model, dataset, windows, training=True)
    warn_if_untrained(model)
    if at == 1:
        totals = summed_gradients(model, features, kinds, torch.abs, "gain")
    else:
        totals = _sums_at_zero(model, features, kinds)
    scores = {kind: total / len(features) for kind, total in totals.items()}
    if normalize:
        scores = {kind: _unit_rows(values) for kind, values in scores.items()}
    settings = {"at": at, "normalize": normalize, "windows": len(features)}
    return GateScores.of("gain", model, scores, dataset, settings=settings)


def _sums_at_zero(
    model: QuestionAnsweringModel, features: Dataset, kinds: Sequence[str]
) -> dict[str, np.ndarray]:
    shape = shape_of(model.config)
    n_gates = sum(int(np.prod(shape.gates(kind))) for kind in kinds)
    if n_gates > MAX_GATES_AT_ZERO:
        raise SettingsError(
            f"gain at 0 needs one pass through the data per gate, {n_gates} for {list(kinds)}; "
            f"more than {MAX_GATES_AT_ZERO} are refused: use at=1, or fewer kinds"
        )
    totals = {}
    for kind in kinds:
        total = np.zeros(int(np.prod(shape.gates(kind))))
        for gate in range(len(total)):
            description = f"gain at 0, {kind} {gate + 1}/{len(total)}"
            total[gate] = sum(
                float(gradients[kind].flatten(1)[:, gate].abs().double().sum())
                for gradients in gate_gradients(
                    model, features, [kind], closed=(kind, gate), description=description
                )
            )
        totals[kind] = total.reshape(shape.gates(kind))
    return totals


def _unit_rows(scores: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(scores, axis=-1, keepdims=True)
    return scores / np.where(norm > 0, norm, 1.0)
