"""Fisher information of gates (Kwon et al. 2022), beyond the paper's four approaches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qaprune_lib.models.architecture import shape_of
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.scorers.gradients import gate_gradients
from qaprune_lib.scorers.scores import GateScores, check_kinds, without_absent
from qaprune_lib.training.windows import TrainingData, training_windows


def fisher(
    model: QuestionAnsweringModel,
    dataset: TrainingData,
    *,
    kinds: Sequence[str] = ("attn", "ff"),
    max_length: int | None = None,
    doc_stride: int = 128,
    null_rate: float | None = None,
) -> GateScores:
    """Sum over windows of (∂ loss / ∂ γ)² at γ = 1, of each window by itself.

    Arguments as for `gain`.

    Raises:
        DataError: an empty data set. SettingsError: an unknown kind.
    """
    check_kinds(kinds)
    windows = training_windows(
        model, dataset, max_length=max_length, doc_stride=doc_stride, null_rate=null_rate
    )
    features = windows.features
    shape = shape_of(model.config)
    totals = {kind: np.zeros(shape.gates(kind)) for kind in kinds}
    for gradients in gate_gradients(model, features, kinds, description="fisher"):
        for kind, gradient in gradients.items():
            totals[kind] += gradient.square().sum(0).double().cpu().numpy()
    return GateScores(
        shape=shape,
        method="fisher",
        seed=0,
        data_digest=windows.data_digest,
        settings={"windows": len(features)},
        **without_absent(model, totals),
    )
