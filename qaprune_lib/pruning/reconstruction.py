"""Least-squares correction of what slicing broke, without any training.

After slicing, each sublayer's output projection is solved anew so that the sum before its
LayerNorm comes as close as it can to the unpruned model's, on a few hundred windows: sublayer by
sublayer, each on the inputs that it has in the model that was mended so far, residual stream
included. Sources: Kwon et al. 2022 (mask tuning), ZipLM (Kurtic et al. 2023), K-prune (Park et al.
2024).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qaprune_lib.errors import SettingsError
from qaprune_lib.models.architecture import Encoder
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.models.topology import Topology
from qaprune_lib.progress import tqdm

Batch = dict[str, Tensor]
SUBLAYERS = (("attention_output", "attention_norm"), ("output", "output_norm"))
"""Names in the architecture table: an output projection, and the LayerNorm behind its sum."""


@dataclass(frozen=True)
class Mended:
    """What the correction did to one sublayer, on windows that it was not fitted on.

    Attributes:
        layer, projection: which.
        before, after: mean squared distance per token and dimension to the unpruned model's sum.
        kept: whether the correction was; one that does not help is dropped.
    """

    layer: int
    projection: str
    before: float
    after: float
    kept: bool


def reconstruct(
    small: QuestionAnsweringModel,
    full: QuestionAnsweringModel,
    batches: Sequence[Batch],
    *,
    ridge: float = 1e-2,
    heldout: float = 0.2,
) -> tuple[QuestionAnsweringModel, list[Mended]]:
    """A copy of a sliced model whose output projections are fitted to the unpruned model's.

    For x [tokens, k] the inputs of a sliced projection (W, b) and r what its sum lacks of the
    unpruned model's, with x̃ = [x, 1] and A = x̃ᵀx̃ over real tokens,
    Δ = (A + ρ·mean(diag A)·I)⁻¹ x̃ᵀr is added to (W, b). All in float64; memory holds the hidden
    states of all windows and two k × k matrices.

    Args:
        small: sliced from `full`; stays as it is.
        full: the unpruned model.
        batches: model inputs with `attention_mask`, on any device; a few hundred windows.
        ridge: ρ, how strongly the old weights are preferred.
        heldout: share of the batches that the fit does not see; a sublayer whose error there does
            not fall keeps its weights.

    Raises:
        SettingsError: fewer than two batches, or settings out of range.
    """
    if not 0 < heldout < 1 or ridge <= 0:
        raise SettingsError(f"ridge={ridge} must be positive, and heldout={heldout} in (0, 1)")
    n_heldout = max(1, round(heldout * len(batches)))
    if len(batches) <= n_heldout:
        raise SettingsError(f"{len(batches)} batches: reconstruction needs at least two")
    mended = copy.deepcopy(small).eval()
    ours, theirs = Encoder(mended), Encoder(full)
    depth = ours.shape.n_layers
    kept = list(Topology.of(mended).kept("emb")[0])
    hidden: dict[str, list[Any]] = {"ours": [None] * len(batches), "theirs": [None] * len(batches)}
    found: list[Mended] = []
    training = full.training
    full.eval()
    bar = tqdm(total=2 * depth, desc="reconstruct", unit="sublayer", mininterval=1.0)
    try:
        with bar, torch.inference_mode():
            for layer in range(depth):
                goals = [
                    _sums(theirs, batch, layer, hidden["theirs"], number)
                    for number, batch in enumerate(batches)
                ]
                for which, (projection, norm) in enumerate(SUBLAYERS):
                    fit, test = _Normal(), _Normal()
                    for number, batch in enumerate(batches):
                        inputs, total = _inputs(
                            ours, batch, layer, projection, norm, hidden["ours"][number]
                        )
                        real = batch["attention_mask"].to(total.device).bool()
                        goal = goals[number][which].to(total.device)[..., kept]
                        side = test if number < n_heldout else fit
                        side.add(inputs[real], (goal - total)[real])
                    found.append(
                        _mend(ours.module(layer, projection), fit, test, ridge, layer, projection)
                    )
                    bar.update()
                for number, batch in enumerate(batches):
                    hidden["ours"][number] = _layer_output(
                        ours, batch, layer, hidden["ours"][number]
                    )
    finally:
        full.train(training)
    return mended.train(small.training), found


class _Normal:
    """The sums of a least-squares problem: x̃ᵀx̃, x̃ᵀr, and the sum of r²."""

    def __init__(self) -> None:
        self.gram: Tensor | None = None
        self.cross: Tensor | None = None
        self.square, self.count = 0.0, 0

    def add(self, inputs: Tensor, residual: Tensor) -> None:
        x = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1).double()
        r = residual.double()
        gram, cross = x.T @ x, x.T @ r
        self.gram = gram if self.gram is None else self.gram + gram
        self.cross = cross if self.cross is None else self.cross + cross
        self.square += float(r.square().sum())
        self.count += r.numel()

    def error(self, change: Tensor | None = None) -> float:
        """Mean square of r − x̃ Δ."""
        assert self.gram is not None
        assert self.cross is not None
        total = self.square
        if change is not None:
            total += float((change * (self.gram @ change - 2 * self.cross)).sum())
        return total / max(1, self.count)

    def solve(self, ridge: float) -> Tensor:
        assert self.gram is not None
        assert self.cross is not None
        diagonal = self.gram.diagonal()
        damped = self.gram + ridge * diagonal.mean() * torch.eye(len(diagonal)).to(self.gram)
        return torch.linalg.solve(damped, self.cross)


def _mend(
    module: nn.Module, fit: _Normal, test: _Normal, ridge: float, layer: int, projection: str
) -> Mended:
    change = fit.solve(ridge)
    before, after = test.error(), test.error(change)
    helps = after < before
    if helps:
        if isinstance(module, nn.Linear):
            module.weight += change[:-1].T.to(module.weight)
        module.bias += change[-1].to(module.bias)  # type: ignore[operator, arg-type]
    return Mended(layer, projection, before, after if helps else before, helps)


class _Stop(Exception):
    """Ends a forward pass where all that is wanted has been seen."""


def _sums(
    encoder: Encoder, batch: Batch, layer: int, hidden: list[Any], number: int
) -> tuple[Tensor, Tensor]:
    """The sums before both LayerNorms of one layer; its output replaces what `hidden` holds."""
    seen: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for _, norm in SUBLAYERS:

            def store(_: nn.Module, inputs: tuple[Tensor], name: str = norm) -> None:
                seen[name] = inputs[0]

            module = encoder.module(layer, norm)
            hooks.callback(module.register_forward_pre_hook(store).remove)
        hidden[number] = _layer_output(encoder, batch, layer, hidden[number])
    return seen["attention_norm"], seen["output_norm"]


def _inputs(
    encoder: Encoder, batch: Batch, layer: int, projection: str, norm: str, below: Any
) -> tuple[Tensor, Tensor]:
    """What goes into a projection [batch, length, k], and the sum before its LayerNorm."""
    seen: dict[str, Tensor] = {}

    def store_inputs(module: nn.Module, inputs: tuple[Tensor]) -> None:
        width = module.in_features if isinstance(module, nn.Linear) else 0
        seen["inputs"] = inputs[0][..., :width]

    def store_sum(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen["sum"] = inputs[0]
        raise _Stop

    with ExitStack() as hooks:
        for name, hook in ((projection, store_inputs), (norm, store_sum)):
            module = encoder.module(layer, name)
            hooks.callback(module.register_forward_pre_hook(hook).remove)
        with _from_layer(encoder, layer, below), suppress(_Stop):
            _run(encoder, batch)
    if "inputs" not in seen:  # no head is left: the block only adds its bias
        seen["inputs"] = seen["sum"][..., :0]
    return seen["inputs"], seen["sum"]


def _layer_output(encoder: Encoder, batch: Batch, layer: int, below: Any) -> Any:
    """What a layer returns, given what the layer below it returned."""
    seen: list[Any] = []

    def store(_: nn.Module, __: Any, output: Any) -> None:
        seen.append(output)
        raise _Stop

    handle = encoder.layers[layer].register_forward_hook(store)
    try:
        with _from_layer(encoder, layer, below):
            _run(encoder, batch)
    except _Stop:
        pass
    finally:
        handle.remove()
    return seen[0]


@contextmanager
def _from_layer(encoder: Encoder, layer: int, below: Any) -> Iterator[None]:
    """Layers below are skipped: the last of them returns `below`."""
    skipped = encoder.layers[:layer]
    for module in skipped:
        module.forward = _returning(below)
    try:
        yield
    finally:
        for module in skipped:
            del module.forward  # the class's own method is visible again


def _returning(output: Any) -> Callable[..., Any]:
    return lambda *_, **__: output


def _run(encoder: Encoder, batch: Batch) -> None:
    encoder.model(**{name: tensor.to(encoder.model.device) for name, tensor in batch.items()})
