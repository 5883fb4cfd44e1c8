"""`budget=Speedup(2.0)` and the latency table against what models of such sizes take.

The table adds up blocks that were timed one by one. It is compared with whole models of random
weights and random topologies, each timed in turns with the unpruned one: in milliseconds, and as
the speed-up that was asked for.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch

import qaprune_lib as qp
from benchmarks.shared import Measured, Row, clock, main, random_model, size_of
from qaprune_lib.evaluation.rounds import in_turns
from qaprune_lib.models import ModelShape
from qaprune_lib.models.pruned import ComputeDtype, resize
from qaprune_lib.pruning.latency import LatencyTable, measure_latency
from qaprune_lib.scorers.scores import GateScores


def random_topology(shape: ModelShape, seed: int) -> qp.Topology:
    """Each layer keeps a share of its heads and one of its activations, drawn for itself."""
    rng = np.random.default_rng(seed)
    masks = {
        kind: rng.random(shape.gates(kind)) < rng.random((shape.n_layers, 1))
        for kind in ("attn", "ff")
    }
    return qp.Topology.from_masks(shape, masks)


def model_of(
    model_type: str, topology: qp.Topology, length: int, compute_dtype: ComputeDtype
) -> Any:
    """A model of random weights with a small vocabulary, which costs no time."""
    model = random_model(
        model_type, topology.shape, vocab_size=1000, max_position_embeddings=length + 2
    )
    device = model.device
    resize(model, topology)
    model.compute_dtype = compute_dtype
    return model.to(device).eval()


def milliseconds(
    model_type: str,
    topologies: list[qp.Topology],
    length: int,
    batch_size: int,
    compute_dtype: ComputeDtype,
    rounds: int,
) -> tuple[list[list[float]], int]:
    """[rounds][models], the first being the unpruned one, and how many rounds were repeated."""
    models = [
        model_of(model_type, each, length, compute_dtype)
        for each in (qp.Topology.full(topologies[0].shape), *topologies)
    ]
    ids = torch.randint(5, 1000, (batch_size, length)).to(models[0].device)
    mask = torch.ones_like(ids)

    def forward(model: Any) -> None:
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=mask)

    clocks = [clock(lambda model=model: forward(model)) for model in models]
    found = in_turns(clocks, rounds, warm_up=2)
    return [[1000 * value for value in row] for row in found.seconds], found.repeated


def measure(
    *,
    models: str = "bert-base,mpnet-base",
    compute_dtypes: str = "float32,bfloat16",
    topologies: int = 10,
    length: int = 128,
    batch_size: int = 1,
    speedup: float = 2.0,
    rounds: int = 5,
) -> Measured:
    """Of each model the table's milliseconds over the measured ones, and the speed-up."""
    rows, tables = [], {}
    for name, compute_dtype in product(models.split(","), compute_dtypes.split(",")):
        model_type, shape = size_of(name)
        sizes: dict[str, Any] = {
            "batch_size": batch_size,
            "length": length,
            "compute_dtype": compute_dtype,
        }
        table = measure_latency(shape, model_type=model_type, progress=False, **sizes)
        drawn = [random_topology(shape, seed) for seed in range(topologies)]
        rng = np.random.default_rng(0)
        scores = {kind: rng.random(shape.gates(kind)) for kind in ("attn", "ff")}
        full = model_of(model_type, qp.Topology.full(shape), length, "float32")
        budget = qp.Speedup(speedup, table=table, **sizes)
        halved = qp.Topology.from_scores(GateScores.of("random", full, scores), budget=budget)
        times, repeated = milliseconds(model_type, [*drawn, halved], rounds=rounds, **sizes)
        tables[f"{name} {compute_dtype}"] = _compared(table, drawn, times)
        errors = [of["predicted"] / of["measured"] for of in tables[f"{name} {compute_dtype}"]]
        of = f"({name}, {compute_dtype}, {batch_size} × {length} tokens)"
        rows += [
            Row(
                f"the latency table, {topologies} random topologies",
                f"milliseconds measured {of}",
                errors,
                least=0.9,
                most=1.1,
                repeated=repeated,
                every=True,
            ),
            Row(
                f"speed-up at budget=Speedup({speedup})",
                f"the unpruned model {of}",
                [row[0] / row[-1] for row in times],
                least=0.95 * speedup,
                most=1.05 * speedup,
                repeated=repeated,
            ),
        ]
    return Measured(rows, {"milliseconds": tables})


def _compared(
    table: LatencyTable, drawn: list[qp.Topology], times: list[list[float]]
) -> list[dict[str, float]]:
    medians = np.median(np.array(times), axis=0)
    return [
        {"predicted": table.predict(topology), "measured": float(measured)}
        for topology, measured in zip(drawn, medians[1:], strict=False)
    ]


if __name__ == "__main__":
    main(measure)
