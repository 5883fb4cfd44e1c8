"""Optimal brain surgeon on heads and activations, beyond the paper's four approaches.

What goes is chosen by the loss that is left once the rest of a projection has made up for it as
well as it can, which is what `reconstruct` then does. The loss is taken to second order, its
curvature in the Kronecker-factored form. After Hassibi & Stork 1993, EigenDamage (Wang et al.
2019), ZipLM (Kurtic et al. 2023) and the LLM Surgeon (van der Ouderaa et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn

from qaprune_lib.data.arrow_cache import column
from qaprune_lib.data.batching import batches_by_tokens, take_rows
from qaprune_lib.data.tasks import QuestionData
from qaprune_lib.data.windows import Windows
from qaprune_lib.device import one_thread
from qaprune_lib.errors import GateError, SettingsError, counts, real, short
from qaprune_lib.evaluation.logits import collator_of, features_for
from qaprune_lib.models import Encoder, QuestionAnsweringModel, Topology
from qaprune_lib.models.encoder import OUTPUT_PROJECTIONS
from qaprune_lib.models.sharing import frozen_copy
from qaprune_lib.progress import tqdm
from qaprune_lib.scorers.registry import scorer
from qaprune_lib.scorers.scores import GateScores, check_kinds, warn_if_untrained
from qaprune_lib.training.objectives import CrossEntropy, drawn_labels, model_inputs

_MAX_TOKENS = 2048
_ROUNDS = 16
"""The least useful sixteenth of what is left goes in one round: its order within is not checked."""


@scorer("brain surgeon", order=6, kinds=("attn", "ff"))
def surgeon(
    model: QuestionAnsweringModel,
    dataset: QuestionData,
    *,
    kinds: Sequence[str] = ("attn", "ff"),
    windows: Windows | None = None,
    ridge: float = 1e-2,
    seed: int = 0,
) -> GateScores:
    """Loss in nats per window that each slice's removal adds to that of all that went before it.

    For a projection with weights W [d_embedding, k], x̃ [tokens, k + 1] its inputs and ones for the
    bias, and g [tokens, d_embedding] the gradients at its outputs, A = E[x̃ᵀx̃] + ρ·mean(diag)·I
    and G = Σ gᵀg / windows. The slice that goes next is the one of least
    ½ tr(G W_s (A⁻¹_ss)⁻¹ W_sᵀ); W and A⁻¹ then become those of a layer that makes up for it. The
    gradients are those of answers that are drawn from what the model says, so that the loss is the
    divergence from the model as it is, and the questions' answers are not looked at. Scores of a
    layer never fall in the order of removal.

    Args:
        model: fine-tuned; pruned or not.
        dataset: questions: 250 are enough, all their windows are read.
        kinds: of gates.
        windows: sizes.
        ridge: ρ, how strongly the old weights are preferred, as in `reconstruct`.
        seed: of the answers drawn.

    Raises:
        DataError: an empty data set. SettingsError: an unknown kind, or a setting out of range.
        GateError: weights that give no finite gradients.

    >>> from qaprune_lib import load_model, load_squad
    >>> model, train = load_model("embedded-small", device="cpu"), load_squad("embedded")["train"]
    >>> scores = surgeon(model, train.select(range(4)), windows=Windows(96))
    >>> bool((scores.get("attn") >= 0).all())
    True
    """
    check_kinds(kinds)
    if "emb" in kinds:
        raise SettingsError("surgeon scores heads and activations; embedding dimensions it cannot")
    (seed,) = counts(least=0, seed=seed)
    if not 0 < (ridge := real(ridge)) < math.inf:
        raise SettingsError(f"ridge={short(ridge)} must be positive")
    features = features_for(model, dataset, windows)
    warn_if_untrained(model)
    encoder, topology = Encoder(model), Topology.of(model)
    found = {kind: np.full(encoder.shape.gates(kind), -np.inf) for kind in kinds}
    for (kind, layer), curvature in _curvatures(model, features, kinds, seed).items():
        if not curvature.gradients.isfinite().all():
            raise GateError(
                f"the gradients of layer {layer} hold NaN or infinity: the model's weights or what "
                "it computes from them are not finite; load or fine-tune it anew"
            )
        size = encoder.shape.head_size if kind == "attn" else 1
        projection = encoder.module(layer, OUTPUT_PROJECTIONS[kind])
        with one_thread():
            order, losses = _removals(projection, curvature, size, ridge)
        # ties by the order of removal
        losses = np.maximum.accumulate(losses) * (1 + 1e-9 * np.arange(len(losses)))
        found[kind][layer, np.flatnonzero(topology.mask(kind)[layer])[order]] = losses
    settings = {"windows": len(features), "ridge": ridge}
    return GateScores.of("surgeon", model, found, dataset, seed=seed, settings=settings)


@dataclass
class _Curvature:
    """Sums of one projection in float64: Σ x̃ᵀx̃ and Σ gᵀg over tokens, their number, windows."""

    inputs: Tensor = field(default_factory=lambda: torch.zeros(()))
    gradients: Tensor = field(default_factory=lambda: torch.zeros(()))
    tokens: int = 0
    windows: int = 0

    def add(self, inputs: Tensor, gradient: Tensor, is_token: Tensor, has_bias: bool) -> None:
        # products of one batch in float32 at least, sums of batches in float64
        x, g = (
            each[is_token].to(torch.promote_types(each.dtype, torch.float32))
            for each in (inputs, gradient)
        )
        x = torch.cat([x, x.new_ones(len(x), int(has_bias))], dim=1)
        self.inputs = self.inputs + (x.T @ x).double()
        self.gradients = self.gradients + (g.T @ g).double()
        self.tokens += len(x)
        self.windows += len(is_token)


def _curvatures(
    model: QuestionAnsweringModel, features: Dataset, kinds: Sequence[str], seed: int
) -> dict[tuple[str, int], _Curvature]:
    """By kind and layer, of all projections that have slices left."""
    generator = torch.Generator().manual_seed(seed)
    collator, objective = collator_of(model), CrossEntropy()
    frozen = frozen_copy(model)
    encoder = Encoder(frozen)
    modules = {
        (kind, layer): module
        for layer in range(encoder.shape.n_layers)
        for kind in kinds
        if isinstance(module := encoder.module(layer, OUTPUT_PROJECTIONS[kind]), nn.Linear)
    }
    sums = {place: _Curvature() for place in modules}
    seen: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}

    def store(place: tuple[str, int], _: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        seen[place] = inputs[0].detach(), output.requires_grad_()

    bar = tqdm(total=len(features), desc="surgeon", unit="window", mininterval=1.0)
    with ExitStack() as hooks, bar:
        for place, module in modules.items():
            hooks.callback(module.register_forward_hook(partial(store, place)).remove)
        for rows in batches_by_tokens(column(features, "length"), _MAX_TOKENS):
            batch = collator(take_rows(features, rows))
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            with torch.enable_grad():
                outputs = frozen(**model_inputs(batch))
                labels = drawn_labels(outputs, batch, generator)
                loss = objective(outputs, {**batch, **labels}).sum()
                reached = [output for _, output in seen.values()]
                gradients = torch.autograd.grad(loss, reached)
            is_token = batch["attention_mask"].bool()
            for (place, (inputs, _)), gradient in zip(seen.items(), gradients, strict=True):
                sums[place].add(inputs, gradient, is_token, modules[place].bias is not None)
            seen.clear()
            bar.update(len(rows))
    return sums


def _removals(
    projection: nn.Module, curvature: _Curvature, size: int, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """The order in which slices of `size` columns go, and the loss that each adds."""
    weight = projection.weight.detach().double()  # type: ignore[operator]
    n_slices = weight.shape[1] // size
    gram = curvature.inputs / curvature.tokens
    gram = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
    inverse = torch.linalg.inv(gram)
    # with G = Q Λ Qᵀ: losses are squares of columns of √Λ Qᵀ W, which change as W does
    values, vectors = torch.linalg.eigh(curvature.gradients / curvature.windows / 2)
    weight = values.clamp(min=0).sqrt()[:, None] * (vectors.T @ weight)
    left = torch.arange(n_slices, device=weight.device)
    order, losses = [], []
    while n := len(left):
        at = torch.arange(n, device=left.device)
        blocks = inverse[: n * size, : n * size].reshape(n, size, n, size)[at, :, at]
        alone = _losses(weight.T.reshape(n, size, -1), blocks)
        least = alone.sum(1).argsort()[: max(1, n // _ROUNDS)]
        gone = (least[:, None] * size + torch.arange(size).to(least)).flatten()
        together = inverse[gone][:, gone]
        # exact in this order: each with all before it gone
        order.append(left[least])
        losses.append(_losses(weight.T[gone][None], together[None]).view(-1, size).sum(1))
        stay = torch.ones(len(inverse), dtype=torch.bool, device=left.device)
        stay[gone] = False
        makes_up = torch.linalg.solve(together, inverse[gone][:, stay])
        inverse = inverse[stay][:, stay] - inverse[stay][:, gone] @ makes_up
        stay = stay[: n * size]
        weight = weight[:, stay] - weight[:, gone] @ makes_up[:, : int(stay.sum())]
        left = left[stay[::size]]
    return torch.cat(order).cpu().numpy(), torch.cat(losses).cpu().numpy()


def _losses(rows: Tensor, inverses: Tensor) -> Tensor:
    """Loss that each row adds once those before it in its block are gone: [blocks, rows].

    Of rows [blocks, rows, d_embedding], given the blocks [blocks, rows, rows] of A⁻¹.
    """
    factor = torch.linalg.cholesky_ex(inverses).L
    return torch.linalg.solve_triangular(factor, rows, upper=False).square().sum(-1)
