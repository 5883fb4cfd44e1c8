"""What a head and an activation cost in milliseconds, on the device at hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn
from transformers import PreTrainedModel

from qaprune_lib.device import device_name, synchronize
from qaprune_lib.errors import ModelError, SettingsError, TopologyError, counts
from qaprune_lib.models.architecture import architecture_of
from qaprune_lib.models.choose import BlockCosts
from qaprune_lib.models.encoder import Encoder
from qaprune_lib.models.pruned import ComputeDtype, full_class, resize
from qaprune_lib.models.saved import SavedValue
from qaprune_lib.models.shape import ModelShape
from qaprune_lib.models.topology import Topology
from qaprune_lib.progress import tqdm

WIDTHS = 12
WARM_UP = 3

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


class LatencyTable(SavedValue):
    """Milliseconds of a model's blocks, measured at one batch size and length.

    A model's time is `fixed` + Σ attn[heads of a layer] + Σ ff(width of a layer); what a layer
    costs without any head or activation (two biases and two LayerNorms) is in `fixed`.

    Attributes:
        shape: of the unpruned model.
        model_type: its architecture.
        embedding: how many embedding dimensions it kept.
        batch_size, length: of the inputs, in sequences and tokens.
        device: name of the device.
        threads: CPU threads of torch.
        compute_dtype: what matrix products were computed in.
        attn: [n_heads + 1], by the number of heads that stay; non-decreasing from 0.
        ff_widths: ascending widths from 0 to d_intermediate.
        ff: milliseconds at these widths, linear in between; non-decreasing from 0.
        fixed: embeddings, the layers' remainder and the head.
    """

    called = "a table of latencies"

    shape: ModelShape
    model_type: str
    embedding: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    length: int = Field(gt=0)
    device: str
    threads: int = Field(gt=0)
    compute_dtype: ComputeDtype = "float32"
    attn: tuple[float, ...]
    ff_widths: tuple[int, ...]
    ff: tuple[float, ...]
    fixed: float = Field(ge=0)

    @model_validator(mode="after")
    def _check(self) -> LatencyTable:
        widths = self.ff_widths
        if len(self.attn) != self.shape.n_heads + 1:
            raise ValueError(f"attn has {len(self.attn)} entries, not {self.shape.n_heads + 1}")
        if len(self.ff) != len(widths) or len(widths) < 2:
            raise ValueError(f"ff has {len(self.ff)} entries for {len(widths)} widths")
        if (widths[0], widths[-1]) != (0, self.shape.d_intermediate) or min(np.diff(widths)) <= 0:
            raise ValueError(f"ff_widths {widths} do not ascend from 0 to d_intermediate")
        for name, times in (("attn", self.attn), ("ff", self.ff)):
            if times[0] < 0 or min(np.diff(times)) < 0:
                raise ValueError(f"{name} is negative or decreases")
        return self

    def costs(self, topology: Topology) -> BlockCosts:
        """Milliseconds of each block, at every number of heads and activations.

        Raises:
            TopologyError: the table was measured for a model of another shape, or of another
                number of embedding dimensions.
        """
        shape, (embedding,) = topology.shape, topology.counts("emb")
        if (shape, embedding) != (self.shape, self.embedding):
            raise TopologyError(
                f"these latencies were measured for a model of {self.shape}, {self.embedding} of "
                f"which it kept; this one has {shape}, of which it keeps {embedding}"
            )
        return BlockCosts(
            attn=np.array(self.attn),
            ff=np.interp(np.arange(shape.d_intermediate + 1), self.ff_widths, self.ff),
            fixed=self.fixed,
        )

    def predict(self, topology: Topology) -> float:
        """Milliseconds that a model of this topology takes for one batch.

        Raises:
            TopologyError: as `costs`.
        """
        kept = (np.array(topology.counts(kind), dtype=int) for kind in ("attn", "ff"))
        return self.costs(topology).total(*kept)


def measure_latency(
    shape: ModelShape,
    *,
    model_type: str = "bert",
    embedding: int | None = None,
    batch_size: int = 1,
    length: int = 384,
    device: str | torch.device | None = None,
    compute_dtype: ComputeDtype = "float32",
    repeats: int = 20,
    progress: bool = True,
) -> LatencyTable:
    """Time one attention block per number of heads and one feed-forward block per width.

    The blocks are those of randomly initialised models, resized as pruned models are. All sizes
    run in turns, after a warm-up, so that whatever else the machine does meets all of them alike;
    the table holds the least times, made non-decreasing. Feed-forward widths are 0, 1 and a
    regular grid.

    Args:
        shape: of the unpruned model.
        model_type: its architecture, of those in `ARCHITECTURES`.
        embedding: how many embedding dimensions it keeps; by default all.
        batch_size, length: of the inputs, in sequences and tokens.
        device: by default the GPU if there is one.
        compute_dtype: of the matrix products, as in `load_model`.
        repeats: turns.
        progress: show a bar.

    Raises:
        ModelError: an unsupported architecture, or a head size that it cannot have.
        SettingsError: a number below 1, or an unknown precision.
    """
    if compute_dtype not in (known := get_args(ComputeDtype)):
        raise SettingsError(
            f"compute_dtype={compute_dtype!r} is unknown; there are {', '.join(known)}"
        )
    embedding = shape.d_embedding if embedding is None else embedding
    batch_size, length, repeats, embedding = counts(
        batch_size=batch_size, length=length, repeats=repeats, embedding=embedding
    )
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    grid = np.linspace(0, shape.d_intermediate, WIDTHS - 1).round().astype(int)
    widths = sorted({1, *grid.tolist()})
    with torch.random.fork_rng(devices=[]):
        ids = torch.randint(5, 1000, (batch_size, length)).to(device)
        whole: Any = _resized(shape, model_type, {"emb": embedding}, length)
        whole.compute_dtype = compute_dtype
        inputs, output = _around_layer(whole, ids)
        Encoder(whole).layers[0].forward = lambda *_, **__: output
        runs = [_whole_model(whole, ids)]
        sizes = [(n, 0) for n in range(shape.n_heads + 1)] + [(0, n) for n in widths[1:]]
        for heads, width in sizes:
            kept = {"attn": heads, "ff": width, "emb": embedding}
            layer = _layer(_resized(shape, model_type, kept, 1), inputs, device)
            runs.append(_as_a_model(layer, device, compute_dtype))
    # other work on the machine only ever adds time, so that the least is the least noisy
    least = _in_turns(runs, device, repeats, progress).min(axis=0)
    rest, empty = least[:2]
    attn, ff = map(_rising_from_zero, np.split(least[2:] - empty, [shape.n_heads]))
    return LatencyTable(
        shape=shape,
        model_type=model_type,
        embedding=embedding,
        batch_size=batch_size,
        length=length,
        device=device_name(device),
        threads=torch.get_num_threads(),
        compute_dtype=compute_dtype,
        attn=tuple(attn.tolist()),
        ff_widths=tuple(widths),
        ff=tuple(ff.tolist()),
        fixed=float(rest + shape.n_layers * empty),
    )


def _in_turns(
    runs: list[Callable[[], object]], device: torch.device, repeats: int, progress: bool
) -> np.ndarray:
    """Milliseconds of each run in each turn: [repeats, runs]."""
    milliseconds = np.empty((repeats, len(runs)))
    with torch.inference_mode():
        for turn in tqdm(
            range(-WARM_UP, repeats), desc="measuring latencies", unit="turn", disable=not progress
        ):
            for place, run in enumerate(runs):
                synchronize(device)
                start = time.perf_counter()
                run()
                synchronize(device)
                if turn >= 0:
                    milliseconds[turn, place] = 1000 * (time.perf_counter() - start)
    return milliseconds


def _rising_from_zero(milliseconds: np.ndarray) -> np.ndarray:
    """Zero, then the mean of the closest non-decreasing curves above and below."""
    times = np.maximum([0, *milliseconds], 0)
    above = np.maximum.accumulate(times)
    below = np.minimum.accumulate(times[::-1])[::-1]
    return (above + below) / 2


def _resized(
    shape: ModelShape, model_type: str, kept: Mapping[str, int], length: int
) -> PreTrainedModel:
    """A model of one layer that keeps so many slices of each kind."""
    names = architecture_of(model_type)
    if shape.n_heads * shape.head_size != shape.d_embedding:
        raise ModelError(f"heads of {shape} do not add up to its embedding dimensions")
    sizes = {
        names.n_layers: 1,
        names.n_heads: shape.n_heads,
        names.d_intermediate: shape.d_intermediate,
        names.d_embedding: shape.d_embedding,
    }
    model_class = full_class(model_type)
    config_class: Any = model_class.config_class
    # RoBERTa's positions start at 2
    more = {**names.usual, **sizes}
    config = config_class(vocab_size=1000, max_position_embeddings=length + 2, **more)
    model = model_class(config).eval()
    one = shape.model_copy(update={"n_layers": 1})
    masks = {
        kind: (np.arange(one.gates(kind)[-1]) < count).reshape(one.gates(kind))
        for kind, count in kept.items()
    }
    resize(model, Topology.from_masks(one, masks))
    return model.eval()


def _whole_model(model: Any, ids: torch.Tensor) -> Callable[[], object]:
    model.to(ids.device)
    mask = torch.ones_like(ids)
    return lambda: model(input_ids=ids, attention_mask=mask)


def _around_layer(model: PreTrainedModel, ids: torch.Tensor) -> tuple[Inputs, Any]:
    """What a model gives to its first layer, and what the layer returns.

    Hidden states, and all that the model computes once for all layers.
    """
    found: list[tuple[Inputs, Any]] = []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        found.append(((args, kwargs), output))

    hook = Encoder(model).layers[0].register_forward_hook(keep, with_kwargs=True)
    with torch.inference_mode():
        _whole_model(model, ids)()
    hook.remove()
    return found[0]


def _layer(model: PreTrainedModel, inputs: Inputs, device: torch.device) -> Callable[[], object]:
    """The first layer of a model."""
    args, kwargs = inputs
    layer = Encoder(model).layers[0].to(device)
    return lambda: layer(*args, **kwargs)


def _as_a_model(
    run: Callable[[], object], device: torch.device, compute_dtype: ComputeDtype
) -> Callable[[], object]:
    """Within an autocast of its own: weights are cast anew in each forward pass."""
    if compute_dtype == "float32":
        return run

    def cast() -> object:
        with torch.autocast(device.type, torch.bfloat16):
            return run()

    return cast
