"""Which sizes are fast: an odd one against the next multiple of 8, 16, 32 and 64.

One layer of random weights, with a width that is no multiple of 2, takes turns with the same layer
at the next multiples: what they cost more in arithmetic they may win back in speed.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import numpy as np
import torch

import qaprune_lib as qp
from benchmarks.shared import Measured, Row, clock, main, random_model, size_of
from qaprune_lib.evaluation.rounds import in_turns
from qaprune_lib.models import ModelShape
from qaprune_lib.models.pruned import resize

MULTIPLES = (8, 16, 32, 64)


def layer_of(model_type: str, shape: ModelShape, width: int, length: int) -> Any:
    """A model of one layer with so many activations."""
    model = random_model(model_type, shape, vocab_size=1000, max_position_embeddings=length + 2)
    masks = {"ff": (np.arange(shape.d_intermediate) < width)[None]}
    device = model.device
    resize(model, qp.Topology.from_masks(shape, masks))
    return model.to(device).eval()


def measure(
    *,
    model: str = "bert-base:1",
    widths: int = 6,
    length: int = 192,
    runtimes: str = "float32,bfloat16",
    rounds: int = 5,
) -> Measured:
    """Time at the next multiple over that of odd widths, the mean over widths in each round."""
    model_type, shape = size_of(model)
    drawn = np.random.default_rng(0).integers(shape.d_intermediate // 4, shape.d_intermediate - 64,
                                              widths)  # fmt: skip
    rows = []
    for runtime in runtimes.split(","):
        for batch_size in (1, 16):
            ratios: dict[int, list[list[float]]] = {multiple: [] for multiple in MULTIPLES}
            for odd in (int(width) | 1 for width in drawn):
                sizes = [odd, *(-(-odd // multiple) * multiple for multiple in MULTIPLES)]
                models = [layer_of(model_type, shape, width, length) for width in sizes]
                ids = torch.randint(5, 1000, (batch_size, length)).to(models[0].device)

                def forward(each: Any, ids: torch.Tensor = ids, runtime: str = runtime) -> None:
                    each.compute_dtype = runtime
                    with torch.inference_mode():
                        for _ in range(4):
                            each(input_ids=ids, attention_mask=torch.ones_like(ids))

                found = in_turns([clock(partial(forward, each)) for each in models], rounds)
                for place, multiple in enumerate(MULTIPLES, start=1):
                    ratios[multiple].append(found.ratios(place))
            for multiple, each_width in ratios.items():
                rows.append(
                    Row(
                        f"next multiple of {multiple}, {runtime}, batch {batch_size}",
                        f"an odd number of activations, one layer ({model}, {length} tokens)",
                        [statistics.fmean(values) for values in zip(*each_width, strict=True)],
                    )
                )
    return Measured(rows)


if __name__ == "__main__":
    main(measure)
