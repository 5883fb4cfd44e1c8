"""Decoding time of several models side by side, and what their multiply-accumulates promise."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from transformers import PreTrainedModel

from qaprune_lib.data.arrow_cache import column
from qaprune_lib.data.batching import Collator, take_rows
from qaprune_lib.data.natural_questions.example import AnswerType
from qaprune_lib.data.tasks import QuestionData, task_of
from qaprune_lib.data.tokens import tokenizer_state
from qaprune_lib.data.windows import Windows
from qaprune_lib.device import device_name, synchronize
from qaprune_lib.errors import ModelError, SettingsError, counts, warn
from qaprune_lib.evaluation.decode import DECODERS
from qaprune_lib.evaluation.logits import collator_of, features_for, run, tokenizer_of
from qaprune_lib.evaluation.rounds import TOLERANCE, disagreeing, in_turns
from qaprune_lib.models import Encoder, Topology, head_of
from qaprune_lib.models.sharing import evaluating
from qaprune_lib.progress import tqdm

WARM_UP_BATCHES = 10


class Timing(BaseModel):
    """Decoding time of one model, measured in turns with others.

    Attributes:
        seconds: median over the rounds; seconds_min and seconds_max are their extremes.
        rounds: seconds of each round.
        repeated: how many rounds were measured again.
        speedup: median over the rounds of the first model's time divided by this one's in the same
            round; speedup_low and speedup_high are the extremes.
        macs_ratio: multiply-accumulates of the first model's layers divided by this one's, over
            the windows as they were batched, padding included: the limit of `speedup`. None if
            this model's layers have none left.
        parameters: number of weights, embeddings included.
        size_mib: MiB of these weights.
        windows: windows decoded in a round.
        batch_size: windows decoded at once.
        device: the device's name.
        threads: CPU threads of torch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float
    seconds_min: float
    seconds_max: float
    rounds: tuple[float, ...]
    repeated: int = 0
    speedup: float
    speedup_low: float
    speedup_high: float
    macs_ratio: float | None
    parameters: int
    size_mib: float
    windows: int
    batch_size: int
    device: str
    threads: int


def time_decoding(
    models: Sequence[PreTrainedModel],
    dataset: QuestionData,
    *,
    repeats: int = 5,
    batch_size: int = 1,
    max_questions: int | None = 100,
    windows: Windows | None = None,
    max_answer_length: int = 30,
    num_proc: int | None = None,
    cache_dir: Path | None = None,
    progress: bool = True,
) -> list[Timing]:
    """Time the decoding of a data set by each model, the first being what others compare with.

    All models run in this process, in turns (A B C A B C ...) after a warm-up of each, so that
    whatever else the machine does meets all of them alike. Decoding is the forward pass over every
    window and the search for the best spans, from features that are made already, as in the
    paper's Table 2 (batch 1, median of 5). Batches are of like lengths, padded to their longest.
    A round that differs from the others by more than a tenth is measured again, at most as often as
    there are rounds.

    Args:
        models: question-answering models with a tokenizer each, all on one device.
        dataset: questions as `load_squad` gives them, or a split of `load_natural_questions`,
            whose documents are then held in memory; the models are for the same task.
        repeats: rounds.
        batch_size: windows decoded at once.
        max_questions: use only so many questions, evenly spaced (of Natural Questions: about so
            many, drawn at random); None: all.
        windows, max_answer_length, num_proc, cache_dir: as for `predict`.
        progress: show a bar.

    Raises:
        SettingsError: a number below 1, or no model.
        ModelError: models on several devices, without tokenizer, for another task, or of an
            unsupported architecture.

    Warns:
        QapruneWarning: rounds still differ by more than a tenth: the machine is busy.

    >>> from qaprune_lib import load_model, load_squad
    >>> model, dev = load_model("embedded-small", device="cpu"), load_squad("embedded")["dev"]
    >>> (timing,) = time_decoding([model], dev, max_questions=2, repeats=1, progress=False)
    >>> timing.windows, timing.speedup
    (2, 1.0)
    """
    if not models:
        raise SettingsError("there is no model to time")
    repeats, batch_size = counts(repeats=repeats, batch_size=batch_size)
    (max_questions,) = counts(or_none=True, max_questions=max_questions)
    for model in models:
        tokenizer_of(model)
    device, task = _common_device(models), task_of(dataset)
    if max_questions is not None:
        dataset = task.some(dataset, max_questions)
    questions = task.held(dataset)
    # models with the same tokenizer and precision share their windows
    made: dict[tuple[Any, ...], _Work] = {}
    work = []
    for model in models:
        key = (*tokenizer_state(tokenizer_of(model)), collator_of(model))
        if key not in made:
            features = features_for(model, dataset, windows, num_proc=num_proc, cache_dir=cache_dir)
            made[key] = _Work.of(features, collator_of(model), batch_size)
        work.append(made[key])
    macs = [_macs(model, own) for model, own in zip(models, work, strict=True)]

    def decode(model: PreTrainedModel, own: _Work, every: int = 1) -> None:
        answers = DECODERS[task.name](
            questions, own.features, own.logits(model, every), max_answer_length=max_answer_length
        )
        deque(answers, maxlen=0)

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        for model in models:
            stack.enter_context(evaluating(model))
        bar = stack.enter_context(
            tqdm(total=repeats * len(models), desc="timing", unit="decoding", disable=not progress)
        )
        for model, own in zip(models, work, strict=True):
            decode(model, own, every=-(-len(own.batches) // WARM_UP_BATCHES))

        def timed(model: PreTrainedModel, own: _Work) -> float:
            synchronize(device)
            start = time.perf_counter()
            decode(model, own)
            synchronize(device)
            seconds = time.perf_counter() - start
            bar.update()
            return seconds

        clocks = [partial(timed, *pair) for pair in zip(models, work, strict=True)]
        found = in_turns(clocks, repeats, warm_up=0)
    if disagreeing(found.seconds) is not None:
        warn(
            f"rounds differ by more than {100 * TOLERANCE:.0f}%, though {found.repeated} of them "
            "were measured again: is the machine busy with other work?"
        )
    timings = []
    for place, (model, own, n_macs) in enumerate(zip(models, work, macs, strict=True)):
        rounds, ratios = [row[place] for row in found.seconds], found.ratios(0, place)
        timings.append(
            Timing(
                seconds=statistics.median(rounds),
                seconds_min=min(rounds),
                seconds_max=max(rounds),
                rounds=tuple(rounds),
                repeated=found.repeated,
                speedup=statistics.median(ratios),
                speedup_low=min(ratios),
                speedup_high=max(ratios),
                macs_ratio=macs[0] / n_macs if n_macs else None,
                parameters=sum(weights.numel() for weights in model.parameters()),
                size_mib=weights_mib(model),
                windows=len(own.lengths),
                batch_size=batch_size,
                device=device_name(device),
                threads=torch.get_num_threads(),
            )
        )
    return timings


@dataclass(frozen=True)
class _Work:
    """Windows in batches of fixed size, the longest first: their rows and model inputs."""

    features: Dataset
    lengths: np.ndarray
    batches: list[tuple[list[int], dict[str, Tensor]]]

    @classmethod
    def of(cls, features: Dataset, collator: Collator, batch_size: int) -> _Work:
        lengths = column(features, "length")
        order = np.argsort(-lengths, kind="stable").tolist()
        inputs = features.select_columns(["input_ids", "token_type_ids"])
        batches = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
        return cls(features, lengths, [(b, collator(take_rows(inputs, b))) for b in batches])

    def logits(self, model: PreTrainedModel, every: int) -> list[tuple[np.ndarray, ...]]:
        """Logits of all windows; those that are not in every such batch count as zero."""
        found: dict[int, tuple[np.ndarray, ...]] = {}
        for rows, inputs in self.batches[::every]:
            found.update(zip(rows, run(model, inputs), strict=True))
        head = head_of(model)
        return [
            found.get(row)
            or tuple(
                np.zeros(length if name in head.positions else len(AnswerType), np.float32)
                for name in head.logits
            )
            for row, length in enumerate(self.lengths)
        ]


def weights_mib(model: nn.Module) -> float:
    """MiB of a model's weights in their present precision, embeddings included."""
    return sum(w.numel() * w.element_size() for w in model.parameters()) / 2**20


def _macs(model: PreTrainedModel, work: _Work) -> int:
    """Multiply-accumulates of the layers over all batches, counted from the modules themselves."""
    encoder = Encoder(model)
    linear = sum(
        module.weight.numel()
        for layer in encoder.layers
        for module in layer.modules()
        if isinstance(module, nn.Linear)
    )
    attended = sum(Topology.of(model).counts("attn")) * encoder.shape.head_size
    shapes = [inputs["input_ids"].shape for _, inputs in work.batches]
    return sum(n * length * (linear + 2 * length * attended) for n, length in shapes)


def _common_device(models: Sequence[PreTrainedModel]) -> torch.device:
    devices = {weights.device for model in models for weights in model.parameters()}
    if len(devices) != 1:
        names = ", ".join(sorted(map(str, devices)))
        raise ModelError(f"models are timed on one device; these are on {names}")
    return devices.pop()
