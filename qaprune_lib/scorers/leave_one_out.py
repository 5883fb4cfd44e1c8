"""Leave-one-out: F1 lost when exactly one head is off (paper section 3.2, approach 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn

from qaprune_lib.data.batching import batches_by_tokens
from qaprune_lib.data.features import make_features
from qaprune_lib.data.squad import data_digest
from qaprune_lib.errors import DataError, GateError
from qaprune_lib.evaluation.decode import decode
from qaprune_lib.evaluation.squad import score_predictions
from qaprune_lib.models.architecture import Encoder
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.models.topology import Topology
from qaprune_lib.progress import tqdm
from qaprune_lib.scorers.gradients import frozen
from qaprune_lib.scorers.scores import GateScores, without_absent
from qaprune_lib.training.finetune import collator_for
from qaprune_lib.training.objectives import model_inputs


def leave_one_out(
    model: QuestionAnsweringModel,
    dataset: Dataset,
    *,
    max_length: int = 384,
    doc_stride: int = 128,
    max_tokens: int = 8192,
) -> GateScores:
    """F1 of the whole model minus F1 with one head off, for every head (in F1 points).

    It selects on the questions that score it: use other questions than those of a final figure.
    F1 is the one at threshold 0. All that lies below the head is computed once.

    Raises:
        DataError: an empty data set, or questions that are not of SQuAD's form.
    """
    if not isinstance(dataset, Dataset):
        raise DataError("leave-one-out scores heads by F1 on questions of SQuAD's form alone")
    if len(dataset) == 0:
        raise DataError("no questions to score heads on: the data set is empty")
    features = make_features(dataset, model.tokenizer, max_length=max_length, doc_stride=doc_stride)
    encoder = Encoder(model)
    kept = Topology.of(model).kept("attn")
    heads = [(layer, head) for layer, of_layer in enumerate(kept) for head in of_layer]
    logits = _logits_without(model, encoder, features, heads, max_tokens)
    f1 = []
    for start, end in logits:
        predictions = decode(dataset, features, start, end)
        f1.append(score_predictions(dataset, predictions).at_zero.f1)
    scores = np.zeros(encoder.shape.gates("attn"))
    for (layer, head), without in zip(heads, f1[1:], strict=True):
        scores[layer, head] = f1[0] - without
    return GateScores(
        shape=encoder.shape,
        method="leave_one_out",
        seed=0,
        data_digest=data_digest(dataset),
        settings={"questions": len(dataset), "f1": f1[0]},
        **without_absent(model, {"attn": scores}),
    )


def _logits_without(
    model: QuestionAnsweringModel,
    encoder: Encoder,
    features: Dataset,
    heads: list[tuple[int, int]],
    max_tokens: int,
) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Start and end logits per window: of the whole model, then without each of the heads."""
    collator = collator_for(model)
    lengths = features["length"]
    empty: list[Any] = [np.empty(0, dtype=np.float32)] * len(features)
    results = [(list(empty), list(empty)) for _ in range(len(heads) + 1)]
    rows = features.select_columns(["input_ids", "token_type_ids"])

    def keep(result: int, indices: list[int], outputs: Any) -> None:
        for logits, store in zip(
            (outputs.start_logits, outputs.end_logits), results[result], strict=True
        ):
            for index, row in zip(indices, logits.float().cpu().numpy(), strict=True):
                store[index] = row[: lengths[index]].copy()

    batches = batches_by_tokens(lengths, max_tokens)
    bar = tqdm(total=len(batches) * len(heads), desc="leave one out", unit="pass", mininterval=1.0)
    with bar, frozen(model), torch.inference_mode():
        for indices in batches:
            batch = collator([rows[index] for index in indices])
            inputs = {name: t.to(model.device) for name, t in model_inputs(batch).items()}
            with _remember(encoder) as memory:
                keep(0, indices, model(**inputs))
            for number, (layer, head) in enumerate(heads, start=1):
                with _without_head(encoder, layer, head, memory):
                    keep(number, indices, model(**inputs))
                bar.update()
    return results


class _Memory:
    """Of one forward pass: what each layer returned, and its heads' context vectors."""

    def __init__(self) -> None:
        self.layers: dict[int, Any] = {}
        self.contexts: dict[int, Tensor] = {}


@contextmanager
def _remember(encoder: Encoder) -> Iterator[_Memory]:
    memory = _Memory()
    handles = []
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
        encoder.layers[below]: _returning(memory.layers[below]) for below in range(layer)
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


def _returning(output: Any) -> Callable[..., Any]:
    def forward(*_: Any, **__: Any) -> Any:
        return output

    return forward
