"""Per-example gradients of the loss with respect to gates, in one pass.

Gates with a leading batch dimension make the gradient of a batch's summed loss the gradient of
each example's own. Absolute values and squares are therefore taken per example, not per batch,
whose size would change the scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from datasets import Dataset
from torch import Tensor

from qaprune_lib.data.batching import LABELS, batches_by_tokens
from qaprune_lib.errors import DataError
from qaprune_lib.gates.masks import Masks, apply_masks
from qaprune_lib.models.architecture import shape_of
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.progress import tqdm
from qaprune_lib.training.finetune import collator_for
from qaprune_lib.training.objectives import CrossEntropy, model_inputs

_COLUMNS = ("input_ids", "token_type_ids", *LABELS)


@contextmanager
def frozen(model: QuestionAnsweringModel) -> Iterator[None]:
    """No gradient for any weight, dropout off; both as before afterwards."""
    flags = [(weights, weights.requires_grad) for weights in model.parameters()]
    training = [module for module in model.modules() if module.training]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for weights, flag in flags:
            weights.requires_grad_(flag)
        model.eval()
        for module in training:
            module.training = True


def labelled_batches(
    model: QuestionAnsweringModel, features: Dataset, *, max_tokens: int, description: str
) -> Iterator[dict[str, Tensor]]:
    """Batches of windows with labels on the model's device, under a progress bar.

    Raises:
        DataError: there are no windows.
    """
    if len(features) == 0:
        raise DataError("no windows to score gates on: the data set is empty")
    collator = collator_for(model)
    rows = features.select_columns([name for name in _COLUMNS if name in features.column_names])
    with tqdm(total=len(features), desc=description, unit="window", mininterval=1.0) as bar:
        for indices in batches_by_tokens(features["length"], max_tokens):
            batch = collator([rows[index] for index in indices])
            yield {name: tensor.to(model.device) for name, tensor in batch.items()}
            bar.update(len(indices))


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
    dtype = next(model.parameters()).dtype
    with frozen(model):
        batches = labelled_batches(model, features, max_tokens=max_tokens, description=description)
        for batch in batches:
            n_rows = len(batch["input_ids"])
            masks = Masks.ones(shape, kinds, batch=n_rows, device=model.device, dtype=dtype)
            if closed is not None:
                masks.get(closed[0]).flatten(1)[:, closed[1]] = 0.0
            gates = {kind: masks.get(kind).requires_grad_() for kind in kinds}
            with torch.enable_grad(), apply_masks(model, masks, check_values=False):
                loss = objective(model(**model_inputs(batch)), batch).sum()
                # zeros where a pruned model has no slice of a kind left
                gradients = torch.autograd.grad(loss, list(gates.values()), materialize_grads=True)
            yield dict(zip(gates, gradients, strict=True))
