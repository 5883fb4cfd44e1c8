"""What pruning adds to the ways in which models are served: each over the unpruned one in torch.

Half of the heads and half of the activations are gone, at random. torch in float32 and bfloat16,
ONNX Runtime and OpenVINO on the exported files, also with weights in 8 bits, quantised as ONNX
Runtime does. All runs of one batch size take turns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

import qaprune_lib as qp
from benchmarks.pruned_speed import batches_of, in_torch
from benchmarks.shared import Measured, Row, clock, load, main
from qaprune_lib.evaluation.rounds import in_turns
from qaprune_lib.models.heads import head_of
from qaprune_lib.pruning.export import INT8_FILE
from qaprune_lib.pruning.runtimes import open_file

Run = Callable[[dict[str, torch.Tensor]], object]


def ways(model: Any, folder: Path) -> Iterator[tuple[str, Run]]:
    """Each way to serve a model, by name."""
    whole, small = qp.export_onnx(model, folder, int8=True), folder / INT8_FILE
    for dtype in ("float32", "bfloat16"):
        yield f"torch {dtype}", in_torch(model, dtype)
    names = head_of(model).logits
    for title, runtime in (("ONNX Runtime", "onnxruntime"), ("OpenVINO", "openvino")):
        yield f"{title} float32", open_file(whole, names, runtime)
        yield f"{title} int8", open_file(small, names, runtime)


def measure(
    *, model: str = "minilm", removed: float = 0.5, length: int = 192, rounds: int = 5
) -> Measured:
    """Speeds of both models in each runtime, over the unpruned one in torch float32."""
    whole = load(model, device="cpu")
    kept = qp.Topology.from_scores(qp.scorers.random(whole), fraction=removed)
    rows, speedups = [], {}
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            (way, name): run
            for name, each in (("unpruned", whole), ("pruned", qp.prune(whole, kept)))
            for way, run in ways(each, Path(folder) / name)
        }
        for batch_size in (1, 32):
            batch, times = batches_of(whole, batch_size, length)

            def decode(run: Run, batch: Any = batch, times: int = times) -> None:
                for _ in range(times):
                    run(batch)

            found = in_turns([clock(partial(decode, run)) for run in runs.values()], rounds)
            for place, (way, name) in enumerate(runs):
                if place:  # the first is what the others are compared with
                    speedup = found.ratios(0, place)
                    speedups[f"{way}, {name}, batch {batch_size}"] = speedup
                    against = f"torch float32, unpruned ({model}, {length} tokens)"
                    what = f"speed of {way}, {name}, batch {batch_size}"
                    rows.append(Row(what, against, speedup, repeated=found.repeated))
    return Measured(rows, {"speedups": speedups})


if __name__ == "__main__":
    main(measure)
