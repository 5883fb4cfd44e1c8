"""Masks Γ^attn, Γ^ff and Γ^emb applied to a running model (paper section 3.1).

Masks act through hooks on the stock transformers modules, since transformers 5 ignores a
`head_mask` silently. After each forward pass it is checked that every mask was consumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from threading import get_ident
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from qaprune_lib.errors import GateError
from qaprune_lib.models.adopt import check_in_torch, check_unwrapped
from qaprune_lib.models.encoder import Encoder
from qaprune_lib.models.shape import KINDS, ModelShape
from qaprune_lib.models.topology import Topology


@dataclass(frozen=True)
class Masks:
    """Gate values γ in [0, 1], any kind absent.

    Shapes, in the numbering of the unpruned model: attn [n_layers, n_heads],
    ff [n_layers, d_intermediate], emb [d_embedding]. An optional leading batch dimension gives
    each example gates of its own.

    >>> shape = ModelShape(n_layers=2, n_heads=4, head_size=8, d_intermediate=6, d_embedding=32)
    >>> masks = Masks.ones(shape, ["attn", "emb"], batch=3)
    >>> masks.kinds(), masks.get("attn").shape
    (['attn', 'emb'], torch.Size([3, 2, 4]))
    """

    attn: torch.Tensor | None = None
    ff: torch.Tensor | None = None
    emb: torch.Tensor | None = None

    @classmethod
    def ones(
        cls,
        shape: ModelShape,
        kinds: Sequence[str],
        *,
        batch: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Masks:
        """Open gates of the given kinds, with a leading dimension of `batch` if it is given."""
        leading = () if batch is None else (batch,)
        sizes = {kind: (*leading, *shape.gates(kind)) for kind in kinds}
        return cls(**{k: torch.ones(size, device=device, dtype=dtype) for k, size in sizes.items()})

    @classmethod
    def from_topology(cls, topology: Topology, kinds: Sequence[str] = KINDS) -> Masks:
        """Hard 0/1 gates of the given kinds, as float32 tensors."""
        return cls(**{kind: torch.from_numpy(topology.mask(kind)).float() for kind in kinds})

    def kinds(self) -> list[str]:
        """The kinds of gates that are present."""
        return [kind for kind in KINDS if getattr(self, kind) is not None]

    def get(self, kind: str) -> torch.Tensor:
        """The gates of one kind; the kind must be present."""
        gates = getattr(self, kind)
        if gates is None:
            raise GateError(f"there are no gates of kind {kind!r}, only of {self.kinds()}")
        return gates

    def check(self, topology: Topology, *, values: bool = True) -> None:
        """Check against a model that keeps `topology`: shapes and, if asked, values.

        Raises:
            GateError: no mask at all, one of a wrong shape, values that are not finite, or no
                embedding dimension left to norm.
        """
        if not self.kinds():
            raise GateError("no mask was given: pass at least one of attn, ff and emb")
        for kind in self.kinds():
            gates, expected = self.get(kind), topology.shape.gates(kind)
            if tuple(gates.shape) != expected and tuple(gates.shape[1:]) != expected:
                raise GateError(
                    f"mask {kind!r} has shape {list(gates.shape)}; this model ({topology.shape}) "
                    f"needs {list(expected)}, with or without a leading batch dimension"
                )
            if values and not torch.isfinite(gates).all():
                raise GateError(f"mask {kind!r} holds values that are not finite")
        if not values or self.emb is None:
            return
        if bool((_of_layer(self.emb, topology, "emb").sum(-1) <= 0).any()):
            raise GateError("mask 'emb' closes every embedding dimension that is still there")


@contextmanager
def apply_masks(
    model: PreTrainedModel,
    masks: Masks,
    *,
    embedding_norm: Literal["weighted", "plain"] = "weighted",
    check_values: bool = True,
) -> Iterator[None]:
    """Run a model with masks, inside of a `with` block, in the thread that entered it.

    What other threads compute with the model meanwhile is without masks, or with their own.

    attn multiplies each head's context vector before the attention output projection, ff the
    activations after GeLU before the second linear layer. emb multiplies the embedding output and
    both LayerNorms of every layer by the same γ.

    >>> from transformers import BertConfig, BertForQuestionAnswering
    >>> sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 6}
    >>> model = BertForQuestionAnswering(BertConfig(num_hidden_layers=1, **sizes)).eval()
    >>> with apply_masks(model, Masks(attn=torch.tensor([[1.0, 0.0]]))):
    ...     model(torch.tensor([[1, 2, 3]])).start_logits.shape
    torch.Size([1, 3])

    Args:
        model: unpruned or pruned.
        masks: in the numbering of the unpruned model.
        embedding_norm: "weighted" weights the statistics of the norms by γ, so that a masked model
            equals its pruned model; "plain" is the literal reading of the paper: the mask stands
            before (and after) an unchanged LayerNorm.
        check_values: False spares a step the wait for a GPU that a look at the values is, where
            gates are in [0, 1] by construction.

    Raises:
        GateError: a mask of a wrong shape or value, or, after a forward pass, one that was not
            used.
        ModelError: a wrapped model, or one of `in_runtime`.
    """
    if embedding_norm not in ("weighted", "plain"):
        raise GateError(f"embedding_norm={embedding_norm!r} must be 'weighted' or 'plain'")
    check_unwrapped(model)
    check_in_torch(model)
    encoder, topology = Encoder(model), Topology.of(model)
    masks.check(topology, values=check_values)
    if masks.emb is not None:
        encoder.check_embedding_gates()
        if encoder.relative_norm() is not None and masks.emb.dim() > 1:
            raise GateError(
                "relative positions are the same for all examples of a batch, so embedding gates "
                "cannot differ by example: run one example at a time"
            )
    consumed, expected, thread = set[str](), set[str](), get_ident()

    def verify(*_: Any) -> None:
        if get_ident() != thread:
            return
        missed = sorted(expected - consumed)
        if missed:
            raise GateError(
                f"the forward pass did not use {len(missed)} of {len(expected)} masks, the first "
                f"at {missed[0]}; was the module replaced, or only a part of the model run?"
            )

    def clear(*_: Any) -> None:
        if get_ident() == thread:
            consumed.clear()

    with ExitStack() as hooks:

        def register(
            name: str, module: nn.Module, hook: Callable[..., Any], *, after: bool
        ) -> None:
            expected.add(name)

            def counted(*arguments: Any) -> Any:
                if get_ident() != thread:
                    return None  # as without masks
                consumed.add(name)
                return hook(*arguments)

            add = module.register_forward_hook if after else module.register_forward_pre_hook
            hooks.callback(add(counted).remove)

        for layer in range(encoder.shape.n_layers):
            if masks.attn is not None and topology.kept("attn")[layer]:
                gates = _of_layer(masks.attn[..., layer, :], topology, "attn", layer)
                hook = _scale_heads(gates, encoder.shape.head_size)
                module = encoder.module(layer, "attention_output")
                register(f"attn of layer {layer}", module, hook, after=False)
            if masks.ff is not None and topology.kept("ff")[layer]:
                gates = _of_layer(masks.ff[..., layer, :], topology, "ff", layer)
                module = encoder.module(layer, "output")
                register(f"ff of layer {layer}", module, _scale_inputs(gates), after=False)
        if masks.emb is not None:
            gates = _of_layer(masks.emb, topology, "emb")
            for name, norm in encoder.norms():
                register(f"emb at {name}", norm, _gated_norm(gates, embedding_norm), after=True)
            module = encoder.embedding_output()
            is_norm = isinstance(module, nn.LayerNorm)
            hook = _gated_norm(gates, embedding_norm) if is_norm else _scale_output(gates)
            register("emb at the embeddings", module, hook, after=True)
        # a pass that failed half-way must not count for the next one
        hooks.callback(model.register_forward_pre_hook(clear).remove)
        hooks.callback(model.register_forward_hook(verify).remove)
        yield


def _of_layer(gates: torch.Tensor, topology: Topology, kind: str, layer: int = 0) -> torch.Tensor:
    """Gates of one layer's remaining slices: [n] or [batch, n]."""
    return gates[..., _kept_indices(topology, kind, gates.device)[layer]]


@lru_cache(maxsize=16)
def _kept_indices(
    topology: Topology, kind: str, device: torch.device
) -> tuple[torch.Tensor | slice, ...]:
    """Of each layer the remaining slices, on the device: sent to a GPU once for all passes."""
    size = topology.shape.gates(kind)[-1]
    with torch.inference_mode(False):  # whoever comes first, the next may need gradients
        return tuple(
            slice(None) if len(kept) == size else torch.tensor(kept, dtype=torch.long).to(device)
            for kept in topology.kept(kind)
        )


def _per_position(gates: torch.Tensor) -> torch.Tensor:
    """[n] stays; [batch, n] becomes [batch, 1, n], to multiply into [batch, length, n]."""
    return gates if gates.dim() == 1 else gates[:, None, :]


def _scale_heads(gates: torch.Tensor, head_size: int) -> Callable[..., Any]:
    def hook(_: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        # broadcasting over a view keeps the gradient of γ at [.., n_heads], without a copy of γ
        context = inputs[0].unflatten(-1, (-1, head_size))
        return ((context * _per_position(gates)[..., None].to(context)).flatten(-2),)

    return hook


def _scale_inputs(gates: torch.Tensor) -> Callable[..., Any]:
    def hook(_: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (inputs[0] * _per_position(gates).to(inputs[0]),)

    return hook


def _scale_output(gates: torch.Tensor) -> Callable[..., Any]:
    def hook(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        return output * _per_position(gates).to(output)

    return hook


def _gated_norm(gates: torch.Tensor, embedding_norm: str) -> Callable[..., Any]:
    def plain(norm: nn.LayerNorm, inputs: tuple[torch.Tensor], _: torch.Tensor) -> torch.Tensor:
        gamma = _per_position(gates).to(inputs[0])
        return gamma * nn.functional.layer_norm(
            gamma * inputs[0], norm.normalized_shape, norm.weight, norm.bias, norm.eps
        )

    def weighted(
        norm: nn.LayerNorm, inputs: tuple[torch.Tensor], output: torch.Tensor
    ) -> torch.Tensor:
        # sums over the embedding need float32, as inside of nn.LayerNorm
        z = inputs[0].to(torch.promote_types(inputs[0].dtype, torch.float32))
        gamma = _per_position(gates).to(z)
        total = gamma.sum(-1, keepdim=True)
        mean = (gamma * z).sum(-1, keepdim=True) / total
        variance = (gamma * (z - mean) ** 2).sum(-1, keepdim=True) / total
        normed = norm.weight * (z - mean) / torch.sqrt(variance + norm.eps)
        if norm.bias is not None:
            normed = normed + norm.bias
        return (gamma * normed).to(output.dtype)

    return plain if embedding_norm == "plain" else weighted
