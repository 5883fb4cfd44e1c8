"""Fisher information of gates (Kwon et al. 2022), beyond the paper's four approaches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from qaprune_lib.data.features import make_features
from qaprune_lib.data.squad import data_digest
from qaprune_lib.models.encoder import shape_of
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.scorers.gradients import gate_gradients
from qaprune_lib.scorers.scores import GateScores, check_kinds, without_absent


def fisher(
    model: QuestionAnsweringModel,
    dataset: Dataset,
    *,
    kinds: Sequence[str] = ("attn", "ff"),
    max_length: int = 384,
    doc_stride: int = 128,
) -> GateScores:
    """Sum over windows of (∂ loss / ∂ γ)² at γ = 1, of each window by itself.

    Raises:
        DataError: an empty data set. SettingsError: an unknown kind.
    """
    check_kinds(kinds)
    features = make_features(dataset, model.tokenizer, max_length=max_length, doc_stride=doc_stride)
    shape = shape_of(model.config)
    totals = {kind: np.zeros(shape.gates(kind)) for kind in kinds}
    for gradients in gate_gradients(model, features, kinds, description="fisher"):
        for kind, gradient in gradients.items():
            totals[kind] += gradient.square().sum(0).double().cpu().numpy()
    return GateScores(
        shape=shape,
        method="fisher",
        seed=0,
        data_digest=data_digest(dataset),
        settings={"windows": len(features)},
        **without_absent(model, totals),
    )
