"""Fisher information of gates (Kwon et al. 2022), beyond the paper's four approaches."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qaprune_lib.data.tasks import QuestionData
from qaprune_lib.data.windows import Windows
from qaprune_lib.evaluation.logits import features_for
from qaprune_lib.models import QuestionAnsweringModel
from qaprune_lib.scorers.gradients import summed_gradients
from qaprune_lib.scorers.registry import scorer
from qaprune_lib.scorers.scores import GateScores, check_kinds, warn_if_untrained


@scorer("Fisher", order=5)
def fisher(
    model: QuestionAnsweringModel,
    dataset: QuestionData,
    *,
    kinds: Sequence[str] = ("attn", "ff"),
    windows: Windows | None = None,
) -> GateScores:
    """Sum over windows of (∂ loss / ∂ γ)² at γ = 1, of each window by itself.

    Arguments as for `gain`.

    Raises:
        DataError: an empty data set. SettingsError: an unknown kind.

    >>> from qaprune_lib import load_model, load_squad
    >>> model, train = load_model("embedded-small", device="cpu"), load_squad("embedded")["train"]
    >>> bool((fisher(model, train.select(range(2)), windows=Windows(96)).get("ff") >= 0).all())
    True
    """
    check_kinds(kinds)
    features = features_for(model, dataset, windows, training=True)
    warn_if_untrained(model)
    scores = summed_gradients(model, features, kinds, torch.square, "fisher")
    return GateScores.of("fisher", model, scores, dataset, settings={"windows": len(features)})
