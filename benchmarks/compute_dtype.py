"""How much faster a model is in bfloat16 on this device: training, gates and decoding.

``python benchmarks/compute_dtype.py mpnet-base`` prints one JSON object: of each kind of step the
ratio of float32's seconds to bfloat16's, median and extremes over rounds in which both take turns,
and where it ran. Windows are random tokens, all of one length.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from qaprune_lib.cache import write_atomically
from qaprune_lib.gates import HardConcrete, Masks, apply_masks
from qaprune_lib.models import QuestionAnsweringModel, load_model, shape_of
from qaprune_lib.training.objectives import CrossEntropy
from study.records.environment import environment

Step = Callable[[QuestionAnsweringModel, dict[str, torch.Tensor]], None]


def train(model: QuestionAnsweringModel, batch: dict[str, torch.Tensor]) -> None:
    """Forward and backward pass with gradients of all weights."""
    model.requires_grad_(True)
    loss(model, batch).backward()
    model.zero_grad()


def train_gates(model: QuestionAnsweringModel, batch: dict[str, torch.Tensor]) -> None:
    """The same with gradients of gates alone."""
    model.requires_grad_(False)
    gates = HardConcrete(shape_of(model.config).gates("attn")).to(model.device)
    with apply_masks(model, Masks(attn=gates.sample())):
        loss(model, batch).backward()


def decode(model: QuestionAnsweringModel, batch: dict[str, torch.Tensor]) -> None:
    """Forward pass alone."""
    with torch.inference_mode():
        loss(model, batch)


def loss(model: QuestionAnsweringModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of labels at the second token."""
    outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    return CrossEntropy()(outputs, batch).mean()


def seconds(step: Step, model: QuestionAnsweringModel, batch: dict[str, torch.Tensor]) -> float:
    """Wall time of one step."""
    begin = time.perf_counter()
    step(model, batch)
    if model.device.type != "cpu":
        torch.accelerator.synchronize(model.device)
    return time.perf_counter() - begin


def main() -> None:
    """Time each kind of step in both precisions, in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="anything that load_model takes")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--length", type=int, default=192, help="of a window, in tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", help="a file for what is printed")
    options = parser.parse_args()
    models = [load_model(options.model, compute_dtype=name) for name in ("float32", "bfloat16")]
    size, device = (options.batch_size, options.length), models[0].device
    ids = torch.randint(1000, 2000, size, generator=torch.Generator().manual_seed(0))
    second = torch.ones(options.batch_size, dtype=torch.int64)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    batch |= {"start_positions": second, "end_positions": second}
    batch = {name: values.to(device) for name, values in batch.items()}
    ratios = {}
    for step in (train, train_gates, decode):
        rounds = [
            [seconds(step, model, batch) for model in models] for _ in range(options.rounds + 1)
        ]
        each = [exact / coarse for exact, coarse in rounds[1:]]  # the first one warms up
        ratios[step.__name__] = {"median": statistics.median(each), "range": [min(each), max(each)]}
    settings = {"model": options.model, "batch_size": size[0], "length": size[1]}
    settings |= {"rounds": options.rounds, "threads": torch.get_num_threads()}
    text = json.dumps({**settings, "times_as_fast": ratios, **environment()}, indent=1) + "\n"
    print(text, end="")
    if options.output:
        write_atomically(options.output, text)


if __name__ == "__main__":
    main()
