"""Leave-one-out: F1 lost when exactly one head is off (paper section 3.2, approach 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn

from qaprune_lib.data.arrow_cache import column
from qaprune_lib.data.batching import batches_by_tokens, take_rows
from qaprune_lib.data.tasks import task_of
from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import DataError, GateError
from qaprune_lib.evaluation.decode import decode
from qaprune_lib.evaluation.logits import WindowLogits, collator_of, features_for, run
from qaprune_lib.evaluation.squad import score_predictions
from qaprune_lib.models import Encoder, QuestionAnsweringModel, Topology
from qaprune_lib.models.adopt import check_in_torch
from qaprune_lib.models.sharing import frozen_copy
from qaprune_lib.progress import tqdm
from qaprune_lib.scorers.registry import scorer
from qaprune_lib.scorers.scores import GateScores, warn_if_untrained


@scorer("leave-one-out", order=3, kinds=("attn",), questions="dev")
def leave_one_out(
    model: QuestionAnsweringModel,
    dataset: Dataset,
    *,
    windows: Windows | None = None,
    max_tokens: int = 8192,
) -> GateScores:
    """F1 of the whole model minus F1 with one head off, for every head (in F1 points).

    It selects on the questions that score it: use other questions than those of a final figure.
    F1 is the one at threshold 0. All that lies below the head is computed once.

    Raises:
        DataError: an empty data set, or questions that are not of SQuAD's form.

    >>> from qaprune_lib import load_model, load_squad
    >>> model = load_model("embedded-small", layers=1, device="cpu")
    >>> leave_one_out(model, load_squad("embedded")["dev"].select([0])).get("attn").shape
    (1, 12)
    """
    if task_of(dataset).name != "squad":
        raise DataError("leave-one-out scores heads by F1 on questions of SQuAD's form alone")
    features = features_for(model, dataset, windows)
    check_in_torch(model)
    warn_if_untrained(model)
    whole = frozen_copy(model)
    encoder = Encoder(whole)
    kept = Topology.of(model).kept("attn")
    heads = [(layer, head) for layer, of_layer in enumerate(kept) for head in of_layer]
    f1 = [
        score_predictions(dataset, decode(dataset, features, logits)).at_zero.f1
        for logits in _logits_without(whole, encoder, features, heads, max_tokens)
    ]
    scores = np.zeros(encoder.shape.gates("attn"))
    for (layer, head), without in zip(heads, f1[1:], strict=True):
        scores[layer, head] = f1[0] - without
    settings = {"questions": len(dataset), "f1": f1[0]}
    return GateScores.of("leave_one_out", model, {"attn": scores}, dataset, settings=settings)


def _logits_without(
    model: QuestionAnsweringModel,
    encoder: Encoder,
    features: Dataset,
    heads: list[tuple[int, int]],
    max_tokens: int,
) -> list[list[WindowLogits]]:
    """Logits of all windows: of the whole model, then without each of the heads."""
    collator = collator_of(model)
    results: list[list[WindowLogits]] = [[()] * len(features) for _ in range(len(heads) + 1)]
    inputs = features.select_columns(["input_ids", "token_type_ids"])
    batches = batches_by_tokens(column(features, "length"), max_tokens)
    bar = tqdm(total=len(batches) * len(heads), desc="leave one out", unit="pass", mininterval=1.0)
    with bar, torch.inference_mode():
        for rows in batches:
            batch = collator(take_rows(inputs, rows))

            def keep(result: int, rows: list[int] = rows, batch: Any = batch) -> None:
                for row, logits in zip(rows, run(model, batch), strict=True):
                    results[result][row] = tuple(values.copy() for values in logits)

            with _remember(encoder) as memory:
                keep(0)
            for number, (layer, head) in enumerate(heads, start=1):
                with _without_head(encoder, layer, head, memory):
                    keep(number)
                bar.update()
    return results


class _Memory(NamedTuple):
    """Of one forward pass: what each layer returned, and its heads' context vectors."""

    layers: dict[int, Any]
    contexts: dict[int, Tensor]


@contextmanager
def _remember(encoder: Encoder) -> Iterator[_Memory]:
    memory, handles = _Memory({}, {}), []
    for number, layer in enumerate(encoder.layers):

        def store_layer(_: nn.Module, __: Any, output: Any, number: int = number) -> None:
            memory.layers[number] = output

        def store_context(_: nn.Module, inputs: tuple[Tensor], number: int = number) -> None:
            memory.contexts[number] = inputs[0]

        handles.append(layer.register_forward_hook(store_layer))
        projection = encoder.module(number, "attention_output")
        handles.append(projection.register_forward_pre_hook(store_context))
    try:
        yield memory
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _without_head(encoder: Encoder, layer: int, head: int, memory: _Memory) -> Iterator[None]:
    """One head off; what lies below its context vectors is taken from memory."""
    size = encoder.shape.head_size
    position = Topology.of(encoder.model).kept("attn")[layer].index(head)
    projection = encoder.module(layer, "attention_output")
    shortcuts: dict[nn.Module, Callable[..., Any]] = {
        encoder.layers[below]: lambda *_, output=memory.layers[below], **__: output
        for below in range(layer)
    }

    def attention(*_: Any, **__: Any) -> tuple[Tensor, None]:
        context = memory.contexts[layer]
        return (projection(context) if encoder.architecture.projects_inside else context), None

    shortcuts[encoder.module(layer, "attention")] = attention
    consumed = False

    def close(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        nonlocal consumed
        consumed = True
        context = inputs[0].clone()
        context[..., position * size : (position + 1) * size] = 0.0
        return (context,)

    handle = projection.register_forward_pre_hook(close)
    for module, shortcut in shortcuts.items():
        module.forward = shortcut
    try:
        yield
    finally:
        handle.remove()
        for module in shortcuts:
            del module.forward  # the class's own method is visible again
    if not consumed:
        raise GateError(f"the forward pass did not use head {head} of layer {layer}")
