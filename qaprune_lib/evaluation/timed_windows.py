"""The windows that decoding is timed on, made and batched beforehand, and their decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from qaprune_lib.data.natural_questions_example import AnswerType, Example
from qaprune_lib.errors import ModelError
from qaprune_lib.evaluation.decode import decode
from qaprune_lib.evaluation.natural_questions_decode import WindowLogits, decode_natural_questions

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedModel

    from qaprune_lib.data.natural_questions import NaturalQuestions


@dataclass(frozen=True)
class TimedWindows:
    """Features in batches of fixed size, longest first: rows of `features` and model inputs."""

    features: Dataset
    lengths: list[int]
    batches: list[tuple[list[int], dict[str, Tensor]]]


def timed_windows(
    models: Sequence[PreTrainedModel],
    dataset: Dataset | NaturalQuestions,
    batch_size: int,
    **settings: Any,
) -> list[TimedWindows]:
    """The windows of each model; models with the same tokenizer share them."""
    from qaprune_lib.data.features import make_features
    from qaprune_lib.data.natural_questions import NaturalQuestions
    from qaprune_lib.data.natural_questions_features import make_natural_questions_features
    from qaprune_lib.data.windows import tokenizer_state
    from qaprune_lib.models.heads import head_of

    task = "natural_questions" if isinstance(dataset, NaturalQuestions) else "squad"
    made: dict[str, TimedWindows] = {}
    of_each = []
    for model in models:
        if head_of(model).task != task:
            raise ModelError(f"a model for {head_of(model).task!r} cannot decode {task!r}")
        if getattr(model, "tokenizer", None) is None:
            raise ModelError("a model carries no tokenizer: use load_model, or set model.tokenizer")
        tokenizer = cast(Any, model).tokenizer
        state = f"{'token_type_ids' in tokenizer.model_input_names} {tokenizer_state(tokenizer)}"
        if state not in made:
            if isinstance(dataset, NaturalQuestions):
                sizes = {k: v for k, v in settings.items() if k != "num_proc"}
                features = make_natural_questions_features(dataset, tokenizer, **sizes)
            else:
                features = make_features(dataset, tokenizer, **settings)
            made[state] = _batch(features, tokenizer, batch_size)
        of_each.append(made[state])
    return of_each


def some_of(dataset: Dataset | NaturalQuestions, count: int | None) -> Dataset | NaturalQuestions:
    """So many questions, evenly spaced; of Natural Questions about so many, drawn at random."""
    from qaprune_lib.data.natural_questions import NaturalQuestions

    if isinstance(dataset, NaturalQuestions):
        total = sum(1 for _ in dataset) if count else 0
        return dataset.sample(count / total) if count and count < total else dataset
    if count is None or count >= len(dataset):
        return dataset
    return dataset.select(np.linspace(0, len(dataset) - 1, count).round().astype(int))


def examples_of(dataset: Dataset | NaturalQuestions) -> Dataset | list[Example]:
    """What is decoded again and again: a stream is read once, and held in memory."""
    from qaprune_lib.data.natural_questions import NaturalQuestions

    return list(dataset) if isinstance(dataset, NaturalQuestions) else dataset


def _batch(features: Dataset, tokenizer: Any, batch_size: int) -> TimedWindows:
    from qaprune_lib.data.batching import Collator

    lengths: list[int] = list(features["length"])
    order = np.argsort(-np.array(lengths), kind="stable").tolist()
    collate = Collator(
        pad_token_id=tokenizer.pad_token_id,
        token_type_ids="token_type_ids" in tokenizer.model_input_names,
    )
    inputs = features.select_columns(["input_ids", "token_type_ids"])
    batches = []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batches.append((rows, collate([inputs[row] for row in rows])))
    return TimedWindows(features, lengths, batches)


def decode_windows(
    model: PreTrainedModel,
    examples: Dataset | list[Example],
    work: TimedWindows,
    batches: list[tuple[list[int], dict[str, Tensor]]],
    max_answer_length: int,
) -> None:
    """What is timed. Windows that are in no batch count as logits of zero."""
    import torch

    from qaprune_lib.models.heads import head_of

    head = head_of(model)
    start = [np.zeros(length, np.float32) for length in work.lengths]
    end = list(start)
    types = [np.zeros(len(AnswerType), np.float32)] * len(start)
    device = next(model.parameters()).device
    for rows, inputs in batches:
        output = model(**{k: v.to(device, non_blocking=True) for k, v in inputs.items()})
        logits = torch.stack([output.start_logits, output.end_logits]).float().cpu().numpy()
        for position, row in enumerate(rows):
            start[row], end[row] = logits[:, position, : work.lengths[row]]
        if head.classes:
            for row, of_window in zip(rows, output.answer_type_logits.float().cpu(), strict=True):
                types[row] = of_window.numpy()
    if isinstance(examples, list):
        windows = map(WindowLogits, start, end, types)
        for _ in decode_natural_questions(
            examples, work.features, windows, max_answer_length=max_answer_length
        ):
            pass
    else:
        decode(examples, work.features, start, end, max_answer_length=max_answer_length)
