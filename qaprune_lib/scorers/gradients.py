"""Per-example gradients of the loss with respect to gates, in one pass.

Gates with a leading batch dimension make the gradient of a batch's summed loss the gradient of
each example's own. Absolute values and squares are therefore taken per example, not per batch,
whose size would change the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from qaprune_lib.data.arrow_cache import column
from qaprune_lib.data.batching import LABELS, batches_by_tokens, take_rows
from qaprune_lib.evaluation.logits import collator_of
from qaprune_lib.gates.masks import Masks, apply_masks
from qaprune_lib.models import QuestionAnsweringModel, shape_of
from qaprune_lib.models.sharing import frozen_copy
from qaprune_lib.progress import tqdm
from qaprune_lib.training.objectives import CrossEntropy, model_inputs

_COLUMNS = ("input_ids", "token_type_ids", *LABELS)


def summed_gradients(
    model: QuestionAnsweringModel,
    features: Dataset,
    kinds: Sequence[str],
    of_each: Callable[[Tensor], Tensor],
    description: str,
) -> dict[str, np.ndarray]:
    """Sum over windows of a function of ∂ loss / ∂ γ, element by element; float64 by kind."""
    shape = shape_of(model.config)
    totals = {kind: np.zeros(shape.gates(kind)) for kind in kinds}
    for gradients in gate_gradients(model, features, kinds, description=description):
        for kind, gradient in gradients.items():
            totals[kind] += of_each(gradient).sum(0).double().cpu().numpy()
    return totals


def gate_gradients(
    model: QuestionAnsweringModel,
    features: Dataset,
    kinds: Sequence[str],
    *,
    max_tokens: int = 4096,
    closed: tuple[str, int] | None = None,
    description: str = "gate gradients",
) -> Iterator[dict[str, Tensor]]:
    """∂ loss of each window / ∂ γ, all gates at 1.

    Args:
        model: unpruned or pruned; its weights get no gradient.
        features: windows with labels.
        kinds: kinds of gates.
        max_tokens: tokens of a batch, padding included; does not change the result.
        closed: a kind and the flat index of one gate that stands at 0 instead of 1.
        description: of the progress bar.

    Yields:
        For each batch and kind a tensor [batch, ...gates of the kind].
    """
    objective, shape = CrossEntropy(), shape_of(model.config)
    dtype, collator = next(model.parameters()).dtype, collator_of(model)
    inputs = features.select_columns([name for name in _COLUMNS if name in features.column_names])
    bar = tqdm(total=len(features), desc=description, unit="window", mininterval=1.0)
    model = frozen_copy(model)
    with bar:
        for rows in batches_by_tokens(column(features, "length"), max_tokens):
            batch = collator(take_rows(inputs, rows))
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            masks = Masks.ones(shape, kinds, batch=len(rows), device=model.device, dtype=dtype)
            if closed is not None:
                masks.get(closed[0]).flatten(1)[:, closed[1]] = 0.0
            gates = {kind: masks.get(kind).requires_grad_() for kind in kinds}
            with torch.enable_grad(), apply_masks(model, masks, check_values=False):
                loss = objective(model(**model_inputs(batch)), batch).sum()
                # zeros where a pruned model has no slice of a kind left
                gradients = torch.autograd.grad(loss, list(gates.values()), materialize_grads=True)
            yield dict(zip(gates, gradients, strict=True))
            bar.update(len(rows))
