"""Decoding time of several models side by side, and what their multiply-accumulates promise."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from qaprune_lib.errors import ModelError, SettingsError
from qaprune_lib.evaluation.timed_windows import (
    TimedWindows,
    decode_windows,
    examples_of,
    some_of,
    timed_windows,
)
from qaprune_lib.progress import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from datasets import Dataset
    from torch import nn
    from transformers import PreTrainedModel

    from qaprune_lib.data.natural_questions import NaturalQuestions

WARM_UP_BATCHES = 10


class Timing(BaseModel):
    """Decoding time of one model, measured in turns with others.

    Attributes:
        seconds: median over the rounds; seconds_min and seconds_max are their extremes.
        rounds: seconds of each round.
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
    dataset: Dataset | NaturalQuestions,
    *,
    repeats: int = 5,
    batch_size: int = 1,
    max_questions: int | None = None,
    max_length: int = 384,
    doc_stride: int = 128,
    max_question_length: int = 64,
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

    Args:
        models: question-answering models with a tokenizer each, all on one device.
        dataset: questions as `load_squad` gives them, or a split of `load_natural_questions`,
            whose documents are then held in memory; the models are for the same task.
        repeats: rounds.
        batch_size: windows decoded at once.
        max_questions: use only so many questions, evenly spaced (of Natural Questions: about so
            many, drawn at random).
        max_length, doc_stride, max_question_length, max_answer_length: as for `predict`.
        num_proc, cache_dir: as for `make_features`.
        progress: show a bar.

    Raises:
        SettingsError: a number below 1, or no model.
        ModelError: models on several devices, without tokenizer, or of an unsupported architecture.
    """
    import torch

    if not models:
        raise SettingsError("there is no model to time")
    counts = {"repeats": repeats, "batch_size": batch_size, "max_questions": max_questions}
    for name, value in counts.items():
        if value is not None and value < 1:
            raise SettingsError(f"{name}={value} must be at least 1")
    device = _common_device(models)
    dataset = some_of(dataset, max_questions)
    examples = examples_of(dataset)
    windows = timed_windows(
        models,
        dataset,
        batch_size,
        max_length=max_length,
        doc_stride=doc_stride,
        max_question_length=max_question_length,
        num_proc=num_proc,
        cache_dir=cache_dir,
    )
    macs = [_macs(model, work) for model, work in zip(models, windows, strict=True)]
    seconds: list[list[float]] = [[] for _ in models]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        for model in models:
            stack.enter_context(_evaluating(model))
        bar = stack.enter_context(
            tqdm(total=repeats * len(models), desc="timing", unit="decoding", disable=not progress)
        )
        for model, work in zip(models, windows, strict=True):
            some = work.batches[:: -(-len(work.batches) // WARM_UP_BATCHES)]
            decode_windows(model, examples, work, some, max_answer_length)
        for _ in range(repeats):
            for model, work, rounds in zip(models, windows, seconds, strict=True):
                synchronize(device)
                start = time.perf_counter()
                decode_windows(model, examples, work, work.batches, max_answer_length)
                synchronize(device)
                rounds.append(time.perf_counter() - start)
                bar.update()

    timings = []
    for model, work, rounds, n_macs in zip(models, windows, seconds, macs, strict=True):
        ratios = [first / this for first, this in zip(seconds[0], rounds, strict=True)]
        timings.append(
            Timing(
                seconds=statistics.median(rounds),
                seconds_min=min(rounds),
                seconds_max=max(rounds),
                rounds=tuple(rounds),
                speedup=statistics.median(ratios),
                speedup_low=min(ratios),
                speedup_high=max(ratios),
                macs_ratio=macs[0] / n_macs if n_macs else None,
                parameters=sum(weights.numel() for weights in model.parameters()),
                size_mib=weights_mib(model),
                windows=len(work.lengths),
                batch_size=batch_size,
                device=device_name(device),
                threads=torch.get_num_threads(),
            )
        )
    return timings


def weights_mib(model: nn.Module) -> float:
    """MiB of a model's weights in their present precision, embeddings included."""
    return sum(w.numel() * w.element_size() for w in model.parameters()) / 2**20


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given; a CPU always has."""
    import torch

    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def device_name(device: torch.device) -> str:
    """Name of a GPU, or "cpu" with its vector instructions."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu ({torch.backends.cpu.get_cpu_capability()})"
    return str(device)


def _macs(model: PreTrainedModel, work: TimedWindows) -> int:
    """Multiply-accumulates of the layers over all batches, counted from the modules themselves."""
    from torch import nn

    from qaprune_lib.models.architecture import Encoder
    from qaprune_lib.models.topology import Topology

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


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
