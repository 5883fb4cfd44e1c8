"""Gain: the mean absolute gradient of the loss at a gate (paper section 3.2, Eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from datasets import Dataset

from qaprune_lib.errors import SettingsError
from qaprune_lib.models.architecture import shape_of
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.scorers.gradients import gate_gradients
from qaprune_lib.scorers.scores import GateScores, check_kinds, without_absent
from qaprune_lib.training.windows import TrainingData, training_windows

MAX_GATES_AT_ZERO = 512


def gain(
    model: QuestionAnsweringModel,
    dataset: TrainingData,
    *,
    kinds: Sequence[str] = ("attn", "ff"),
    at: Literal[0, 1] = 1,
    normalize: bool = False,
    max_length: int | None = None,
    doc_stride: int = 128,
    null_rate: float | None = None,
) -> GateScores:
    """Mean over windows of |∂ loss / ∂ γ|, the "head importance score".

    Args:
        model: fine-tuned.
        dataset: questions; on well-fitted training data the gradient is close to noise.
        kinds: kinds of gates to score.
        at: the paper's Eq. (1) takes the derivative at γ = 0, Michel et al. (2019) at γ = 1. At 0
            each gate needs a pass of its own, with the other gates at 1.
        normalize: divide each layer's scores by their L2 norm, as Michel et al. do.
        max_length, doc_stride, null_rate: of the windows, as for `training_windows`.

    Raises:
        SettingsError: an unknown kind, or `at=0` for more gates than that many passes are sensible
            for.
        DataError: an empty data set.
    """
    if at not in (0, 1):
        raise SettingsError(f"gain at={at}: the derivative is taken at 0 or at 1")
    check_kinds(kinds)
    windows = training_windows(
        model, dataset, max_length=max_length, doc_stride=doc_stride, null_rate=null_rate
    )
    features = windows.features
    scores = (_at_one if at == 1 else _at_zero)(model, features, kinds)
    if normalize:
        scores = {kind: _unit_rows(values) for kind, values in scores.items()}
    return GateScores(
        shape=shape_of(model.config),
        method="gain",
        seed=0,
        data_digest=windows.data_digest,
        settings={"at": at, "normalize": normalize, "windows": len(features)},
        **without_absent(model, scores),
    )


def _at_one(
    model: QuestionAnsweringModel, features: Dataset, kinds: Sequence[str]
) -> dict[str, np.ndarray]:
    shape = shape_of(model.config)
    totals = {kind: np.zeros(shape.gates(kind)) for kind in kinds}
    for gradients in gate_gradients(model, features, kinds, description="gain"):
        for kind, gradient in gradients.items():
            totals[kind] += gradient.abs().sum(0).double().cpu().numpy()
    return {kind: total / len(features) for kind, total in totals.items()}


def _at_zero(
    model: QuestionAnsweringModel, features: Dataset, kinds: Sequence[str]
) -> dict[str, np.ndarray]:
    shape = shape_of(model.config)
    n_gates = sum(int(np.prod(shape.gates(kind))) for kind in kinds)
    if n_gates > MAX_GATES_AT_ZERO:
        raise SettingsError(
            f"gain at 0 needs one pass through the data per gate, {n_gates} for {list(kinds)}; "
            f"more than {MAX_GATES_AT_ZERO} are refused: use at=1, or fewer kinds"
        )
    scores = {}
    for kind in kinds:
        total = np.zeros(int(np.prod(shape.gates(kind))))
        for gate in range(len(total)):
            batches = gate_gradients(
                model,
                features,
                [kind],
                closed=(kind, gate),
                description=f"gain at 0, {kind} {gate + 1}/{len(total)}",
            )
            total[gate] = sum(
                float(gradients[kind].flatten(1)[:, gate].abs().double().sum())
                for gradients in batches
            )
        scores[kind] = (total / len(features)).reshape(shape.gates(kind))
    return scores


def _unit_rows(scores: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(scores, axis=-1, keepdims=True)
    return scores / np.where(norm > 0, norm, 1.0)
