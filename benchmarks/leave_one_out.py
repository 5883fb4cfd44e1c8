"""Leave-one-out of all heads against a whole decoding pass for each head, scores being equal."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset

import qaprune_lib as qp
from benchmarks.shared import Measured, Row, clock, load, main
from qaprune_lib.evaluation.decode import decode
from qaprune_lib.evaluation.logits import features_for, window_logits
from qaprune_lib.evaluation.rounds import in_turns
from qaprune_lib.evaluation.squad import score_predictions
from qaprune_lib.models import shape_of

WHY = (
    "the layers above a head, half of them on average, are computed again, and so is the "
    "feed-forward part of its own: at least (L − 1) / 2 + 2 / 3 of L layers, which is 0.53 for six "
    "and 0.51 for twelve"
)


def pass_for_each_head(model: Any, questions: Dataset) -> np.ndarray:
    """F1 of the whole model minus F1 under a mask that closes one head, for every head."""
    features = features_for(model, questions)

    def f1() -> float:
        logits = window_logits(model, features, progress=False)
        return score_predictions(questions, decode(questions, features, logits)).at_zero.f1

    scores, whole = np.zeros(shape_of(model.config).gates("attn")), f1()
    for layer, head in np.ndindex(scores.shape):
        gates = torch.ones(scores.shape, device=model.device)
        gates[layer, head] = 0.0
        with qp.apply_masks(model, qp.Masks(attn=gates)):
            scores[layer, head] = whole - f1()
    return scores


def measure(*, model: str = "minilm", questions: int = 4, rounds: int = 3) -> Measured:
    """Seconds of both ways, in turns."""
    whole = load(model)
    some = qp.load_squad("embedded")["dev"].select(range(questions))
    fast, slow = (
        partial(qp.scorers.leave_one_out, whole, some),
        partial(pass_for_each_head, whole, some),
    )
    difference = np.abs(fast().get("attn") - slow()).max()
    found = in_turns([clock(slow), clock(fast)], rounds, warm_up=0)
    row = Row(
        "leave-one-out, all heads",
        f"one full decoding pass per head ({model}, {questions} questions)",
        found.ratios(1),
        most=0.45,
        why=WHY,
        repeated=found.repeated,
    )
    return Measured([row], {"largest_difference_in_f1": float(difference)})


if __name__ == "__main__":
    main(measure)
