"""Least-squares correction of what slicing broke, without any training.

After slicing, each sublayer's output projection is solved anew so that its sum with the residual
stream comes as close as it can to the unpruned model's, on a few hundred windows: sublayer by
sublayer, each on the inputs that it has in the model that was mended so far, residual stream
included. The span layer comes last, fitted to the unpruned model's logits. Beyond the paper; after
Kwon et al. 2022, ZipLM (Kurtic et al. 2023) and K-prune (Park et al. 2024).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from qaprune_lib.data.arrow_cache import column
from qaprune_lib.data.batching import batches_by_tokens, take_rows
from qaprune_lib.data.tasks import QuestionData, task_of
from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import DataError, SettingsError, TopologyError, counts, real, short
from qaprune_lib.evaluation.logits import collator_of, features_for
from qaprune_lib.models.adopt import check_own
from qaprune_lib.models.encoder import OUTPUT_PROJECTIONS, Encoder
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.models.sharing import evaluating, frozen_copy
from qaprune_lib.models.topology import Topology
from qaprune_lib.progress import tqdm
from qaprune_lib.training.objectives import model_inputs

Batch = dict[str, Tensor]
PROJECTIONS = tuple(OUTPUT_PROJECTIONS.values())
RECONSTRUCTED = 384
"""Windows, by default."""
_MAX_TOKENS = 2048


@dataclass(frozen=True)
class Mended:
    """What the correction did to one sublayer, on windows that it was not fitted on.

    Attributes:
        layer, projection: which; the span layer, "span_layer", comes after the last layer.
        before, after: mean squared distance per token and dimension to the unpruned model's sum, or
            to its logits.
    """

    layer: int
    projection: str
    before: float
    after: float


def reconstruct(
    small: QuestionAnsweringModel,
    full: QuestionAnsweringModel,
    questions: QuestionData,
    *,
    windows: Windows | None = None,
    n_windows: int = RECONSTRUCTED,
    ridge: float = 1e-2,
    heldout: float = 0.2,
    seed: int = 0,
) -> tuple[QuestionAnsweringModel, list[Mended]]:
    """A copy of a sliced model, its output projections and span layer fitted to the unpruned model.

    For x [tokens, k] the inputs of a sliced projection (W, b) and r what its sum lacks of the
    unpruned model's, with x̃ = [x, 1] and A = x̃ᵀx̃ over real tokens,
    Δ = (A + ρ·mean(diag A)·I)⁻¹ x̃ᵀr is added to (W, b). A is summed and solved in float64. Memory
    holds both models' hidden states of all windows, and matrices of k × k.

    Args:
        small: sliced from `full`; stays as it is.
        full: the unpruned model, or one that was pruned less.
        questions: what the windows are drawn from; answers are not looked at.
        windows: sizes.
        n_windows: how many windows are drawn.
        ridge: ρ, how strongly the old weights are preferred.
        heldout: share of the windows that the fit does not see; a sublayer whose error there does
            not fall keeps its weights.
        seed: of the draw.

    Raises:
        DataError: a single window. SettingsError: a setting out of range.
        TopologyError: `full` lacks slices that `small` has.

    >>> from qaprune_lib import load_model, load_squad, prune, scorers
    >>> full, dev = load_model("embedded-small", device="cpu"), load_squad("embedded")["dev"]
    >>> half = Topology.from_scores(scorers.random(full, kinds=["ff"]), fraction=0.5)
    >>> _, mended = reconstruct(prune(full, half), full, dev, windows=Windows(64), n_windows=64)
    >>> all(sublayer.after <= sublayer.before for sublayer in mended)
    True
    """
    check_own(small)
    check_own(full)
    (n_windows,) = counts(n_windows=n_windows)
    (seed,) = counts(least=0, seed=seed)
    asked = f"ridge={short(ridge)} must be positive, and heldout={short(heldout)} in (0, 1)"
    heldout, ridge = real(heldout), real(ridge)
    if not 0 < heldout < 1 or not 0 < ridge < math.inf:
        raise SettingsError(asked)
    if Topology.of(small).combine(Topology.of(full)) != Topology.of(small):
        raise TopologyError("the full model lacks slices that the small one has")
    batches = _draw(full, questions, windows, n_windows, seed)
    n_heldout = max(1, round(heldout * len(batches)))
    if len(batches) <= n_heldout:
        raise DataError("reconstruction needs at least two windows; these questions give one")
    mended = copy.deepcopy(small)
    mended.tokenizer, mended.compute_dtype = small.tokenizer, small.compute_dtype
    ours, theirs = Encoder(mended), Encoder(frozen_copy(full))
    depth = ours.shape.n_layers
    places = Topology.of(small).embedding_places(Topology.of(full))
    at = torch.tensor(places, device=small.device)
    below: list[Any] = [None] * len(batches)
    below_theirs: list[Any] = [None] * len(batches)
    found: list[Mended] = []
    bar = tqdm(total=2 * depth + 1, desc="reconstruct", unit="sublayer", mininterval=1.0)
    with bar, evaluating(mended), torch.inference_mode():
        for layer in range(depth):
            goals = []
            for number, batch in enumerate(batches):
                sums, below_theirs[number] = _sums(theirs, batch, layer, below_theirs[number])
                goals.append([goal.to(small.device)[..., at] for goal in sums])
            for which, projection in enumerate(PROJECTIONS):
                parts = (
                    _tokens(batch, x, goals[number][which] - total)
                    for number, batch in enumerate(batches)
                    for x, total in [_inputs(ours, batch, layer, projection, below[number])]
                )
                errors = _mend(ours.module(layer, projection), parts, n_heldout, ridge)
                found.append(Mended(layer, projection, *errors))
                bar.update()
            for number, batch in enumerate(batches):
                below[number] = _layer_output(ours, batch, layer, below[number])
        parts = (
            _tokens(batch, x, goal.to(x.device) - logits)
            for number, batch in enumerate(batches)
            for x, logits in [_span_layer(ours, batch, below[number])]
            for _, goal in [_span_layer(theirs, batch, below_theirs[number])]
        )
        span_layer = mended.get_submodule(ours.architecture.span_layer)
        found.append(Mended(depth, "span_layer", *_mend(span_layer, parts, n_heldout, ridge)))
        bar.update()
    return mended, found


def _draw(
    model: QuestionAnsweringModel,
    questions: QuestionData,
    windows: Windows | None,
    n_windows: int,
    seed: int,
) -> list[Batch]:
    """Batches of windows of like lengths, in an order drawn at random."""
    some = task_of(questions).some(questions, n_windows)
    features = features_for(model, some, windows)
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(features))[:n_windows]
    features = features.select(np.sort(chosen))
    collator = collator_of(model)
    lengths = column(features, "length")
    # enough batches that some can be held out
    groups = batches_by_tokens(lengths, max(1, min(_MAX_TOKENS, int(np.sum(lengths)) // 8)))
    batches = [model_inputs(collator(take_rows(features, rows))) for rows in groups]
    return [batches[number] for number in generator.permutation(len(batches))]


def _tokens(batch: Batch, *values: Tensor) -> list[Tensor]:
    """The rows of [batch, length, …] that are no padding."""
    is_token = batch["attention_mask"].to(values[0].device).bool()
    return [each[is_token] for each in values]


def _mend(
    module: nn.Module, parts: Iterable[list[Tensor]], n_heldout: int, ridge: float
) -> tuple[float, float]:
    """Fit a projection to inputs and what its sums lack; returns the errors before and after.

    The first `n_heldout` parts are those that judge it.
    """
    has_bias = module.bias is not None
    fit, test = _LeastSquares(has_bias), _LeastSquares(has_bias)
    for number, (inputs, residual) in enumerate(parts):
        (test if number < n_heldout else fit).add(inputs, residual)
    change = fit.solve(ridge)
    before, after = test.error(), test.error(change)
    if after < before:
        _add(module, change)
    return before, min(before, after)


class _LeastSquares:
    """The sums of a least-squares problem in float64: x̃ᵀx̃, x̃ᵀr, and the sum of r²."""

    def __init__(self, has_bias: bool) -> None:
        self.has_bias = has_bias
        self.gram, self.cross = torch.zeros(0), torch.zeros(0)
        self.square, self.count = 0.0, 0

    def add(self, inputs: Tensor, residual: Tensor) -> None:
        # products of one batch in float32 at least, sums of batches in float64
        inputs, residual = (
            each.to(torch.promote_types(each.dtype, torch.float32)) for each in (inputs, residual)
        )
        x = torch.cat([inputs, inputs.new_ones(len(inputs), int(self.has_bias))], dim=1)
        gram, cross = (x.T @ x).double(), (x.T @ residual).double()
        self.gram = self.gram + gram if self.count else gram
        self.cross = self.cross + cross if self.count else cross
        self.square += float(residual.double().square().sum())
        self.count += residual.numel()

    def error(self, change: Tensor | None = None) -> float:
        """Mean square of r − x̃ Δ."""
        total = self.square
        if change is not None:
            total += float((change * (self.gram @ change - 2 * self.cross)).sum())
        return total / self.count

    def solve(self, ridge: float) -> Tensor:
        """Δ [k + 1, d_embedding], its last row for the bias; without one, [k, d_embedding]."""
        diagonal = self.gram.diagonal()
        damping = torch.full_like(diagonal, ridge * float(diagonal.mean()))
        return torch.linalg.solve(self.gram + damping.diag(), self.cross)


def _add(module: nn.Module, change: Tensor) -> None:
    if isinstance(module, nn.Linear):
        module.weight += change[: module.in_features].T.to(module.weight)
    if module.bias is not None:
        module.bias += change[-1].to(module.bias)  # type: ignore[operator, arg-type]


class _Stop(Exception):
    """Ends a forward pass where all that is wanted has been seen."""


def _sums(encoder: Encoder, batch: Batch, layer: int, below: Any) -> tuple[list[Tensor], Any]:
    """What the sublayers of one layer make of the residual stream, and what the layer returns."""
    seen: list[Tensor] = []
    with ExitStack() as hooks:
        for projection in PROJECTIONS:
            hooks.callback(_at_sum(encoder, layer, projection, seen.append).remove)
        output = _layer_output(encoder, batch, layer, below)
    return seen, output


def _inputs(
    encoder: Encoder, batch: Batch, layer: int, projection: str, below: Any
) -> tuple[Tensor, Tensor]:
    """What goes into a projection [batch, length, k], and its sum with the residual stream."""
    seen: dict[str, Tensor] = {}

    def store_inputs(module: nn.Module, inputs: tuple[Tensor]) -> None:
        width = module.in_features if isinstance(module, nn.Linear) else 0
        seen["inputs"] = inputs[0][..., :width]

    def store_sum(total: Tensor) -> None:
        seen["sum"] = total
        raise _Stop

    with ExitStack() as hooks:
        module = encoder.module(layer, projection)
        hooks.callback(module.register_forward_pre_hook(store_inputs).remove)
        hooks.callback(_at_sum(encoder, layer, projection, store_sum).remove)
        with _from_layer(encoder, layer, below), suppress(_Stop):
            _run(encoder, batch)
    if "inputs" not in seen:  # no head is left: the block only adds its bias
        seen["inputs"] = seen["sum"][..., :0]
    return seen["inputs"], seen["sum"]


def _at_sum(
    encoder: Encoder, layer: int, projection: str, store: Callable[[Tensor], None]
) -> RemovableHandle:
    """Have a projection's sum with the residual stream stored in each forward pass.

    It is what a norm is given or, where norms stand before the sublayers, what a layer returns.
    """
    norms_first = encoder.architecture.final_norm is not None
    if norms_first and projection == "output":
        return encoder.layers[layer].register_forward_hook(lambda _, __, output: store(output))
    norm = "output_norm" if norms_first or projection == "output" else "attention_norm"
    module = encoder.module(layer, norm)
    return module.register_forward_pre_hook(lambda _, inputs: store(inputs[0]))


def _span_layer(encoder: Encoder, batch: Batch, below: Any) -> tuple[Tensor, Tensor]:
    """Inputs and outputs of the span layer, given what the last layer returned."""
    seen: list[Tensor] = []

    def store(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        seen.extend((inputs[0], output))

    span_layer = encoder.model.get_submodule(encoder.architecture.span_layer)
    handle = span_layer.register_forward_hook(store)
    try:
        with _from_layer(encoder, len(encoder.layers), below):
            _run(encoder, batch)
    finally:
        handle.remove()
    return seen[0], seen[1]


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
