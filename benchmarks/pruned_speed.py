"""How much faster a pruned model is, against the ratio of multiply-accumulates.

Half of the heads and half of the activations are gone, at random. Windows are random tokens, all
of one length, or each of another one, as texts are; both models take turns. In ONNX the same models
run in onnxruntime.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import qaprune_lib as qp
from benchmarks.shared import Measured, Row, clock, load, main, random_batch
from qaprune_lib.evaluation.rounds import in_turns
from qaprune_lib.models.heads import head_of
from qaprune_lib.pruning.runtimes import open_file

TARGETS = {"1": 0.85, "1, 128 lengths": 0.85, "8": None, "32": 0.95}
WHY: dict[str, str] = {}


def in_torch(model: Any, dtype: str) -> Callable[[dict[str, torch.Tensor]], object]:
    """A function that runs a batch."""

    def run(batch: dict[str, torch.Tensor]) -> object:
        model.compute_dtype = dtype
        with torch.inference_mode():
            return model(**batch)

    return run


def in_onnx(model: Any, folder: Path) -> Callable[[dict[str, torch.Tensor]], object]:
    """The same of the exported model."""
    return open_file(qp.export_onnx(model, folder), head_of(model).logits, "onnxruntime")


def batches_of(model: Any, batch_size: int, length: int) -> tuple[dict[str, torch.Tensor], int]:
    """Inputs of random tokens, and how many such batches hold 32 windows."""
    batch = random_batch(model, batch_size, length)
    batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return {**batch, "token_type_ids": torch.zeros_like(batch["input_ids"])}, 32 // batch_size


def measure(
    *,
    model: str = "embedded",
    removed: float = 0.5,
    length: int = 128,
    runtimes: str = "float32,bfloat16,ONNX",
    rounds: int = 5,
) -> Measured:
    """Speed-ups in turns, divided by the ratio of multiply-accumulates."""
    whole = load(model)
    kept = qp.Topology.from_scores(qp.scorers.random(whole), fraction=removed)
    both = [whole, qp.prune(whole, kept)]
    macs = qp.Topology.of(whole).macs(length) / kept.macs(length)
    rows, speedups = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for runtime in runtimes.split(","):
            runs = [
                in_onnx(each, Path(folder) / str(number))
                if runtime == "ONNX"
                else in_torch(each, runtime)
                for number, each in enumerate(both)
            ]
            for sizes, least in TARGETS.items():
                batch_size, *others = sizes.split(", ")
                batch, times = batches_of(whole, int(batch_size), length)
                batches = [batch] * times
                if others:  # from half the length to one and a half
                    lengths = range(length // 2, length // 2 + length)
                    batches = [batches_of(whole, 1, each)[0] for each in lengths]

                def decode(run: Any, batches: Any = batches) -> None:
                    for batch in batches:
                        run(batch)

                found = in_turns([clock(partial(decode, run)) for run in runs], rounds)
                speedup = found.ratios(0, 1)
                speedups[f"{runtime}, batch {sizes}"] = speedup
                rows.append(
                    Row(
                        f"speed-up of a pruned model, {runtime}, batch {sizes}",
                        f"ratio of MACs, {macs:.2f} ({model}, {length} tokens)",
                        [value / macs for value in speedup],
                        least=least,
                        why=WHY.get(runtime, ""),
                        repeated=found.repeated,
                    )
                )
    return Measured(rows, {"macs_ratio": macs, "speedups": speedups})


if __name__ == "__main__":
    main(measure)
