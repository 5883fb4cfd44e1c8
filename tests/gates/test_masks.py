"""Masks against a literal second implementation; masks that would do nothing are errors."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qaprune_lib.errors import GateError
from qaprune_lib.gates import Masks, apply_masks
from qaprune_lib.models import ModelShape, QuestionAnsweringModel, shape_of
from qaprune_lib.pruning import prune
from tests.models.tiny import (
    PROJECTED,
    TESTED,
    assert_agree,
    logits,
    random_topology,
    tiny_batch,
    tiny_model,
)
from tests.quick import at_most

KINDS = ("attn", "ff", "emb")


def random_masks(
    shape: ModelShape, seed: int, kinds: tuple[str, ...] = KINDS, batch: int | None = None
) -> Masks:
    """Fractional gates of which about a third are exactly 0 and a third exactly 1."""
    generator = torch.Generator().manual_seed(seed)
    leading = () if batch is None else (batch,)
    gates = {}
    for kind in kinds:
        u = torch.rand(*leading, *shape.gates(kind), generator=generator)
        gates[kind] = (3 * u - 1).clamp(0, 1)
    return Masks(**gates)


def literal_norm(z: np.ndarray, weight: Any, bias: Any, gamma: Any, eps: float) -> np.ndarray:
    mean = (gamma * z).sum(-1, keepdims=True) / gamma.sum()
    variance = (gamma * (z - mean) ** 2).sum(-1, keepdims=True) / gamma.sum()
    return gamma * (weight * (z - mean) / np.sqrt(variance + eps) + bias)


def literal_plain_norm(z: np.ndarray, weight: Any, bias: Any, gamma: Any, eps: float) -> np.ndarray:
    z = gamma * z
    mean, variance = z.mean(-1, keepdims=True), z.var(-1, keepdims=True)
    return gamma * (weight * (z - mean) / np.sqrt(variance + eps) + bias)


def literal_forward(
    model: QuestionAnsweringModel,
    masks: Masks,
    input_ids: list[int],
    norm: Callable[..., np.ndarray] = literal_norm,
) -> np.ndarray:
    """BERT for one unpadded example of token type 0, head by head: start, then end logits."""
    w = {name: weights.double().numpy() for name, weights in model.state_dict().items()}
    shape, eps = shape_of(model.config), model.config.layer_norm_eps
    gates = SimpleNamespace(**{kind: masks.get(kind).double().numpy() for kind in KINDS})

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def gated_norm(x: np.ndarray, name: str) -> np.ndarray:
        return norm(x, w[f"{name}.weight"], w[f"{name}.bias"], gates.emb, eps)

    table = "bert.embeddings.{}_embeddings.weight"
    h = w[table.format("word")][input_ids] + w[table.format("token_type")][0]
    h = gated_norm(h + w[table.format("position")][: len(input_ids)], "bert.embeddings.LayerNorm")
    for layer in range(shape.n_layers):
        base = f"bert.encoder.layer.{layer}"
        q, k, v = (dense(h, f"{base}.attention.self.{name}") for name in ("query", "key", "value"))
        heads = []
        for head in range(shape.n_heads):
            part = slice(head * shape.head_size, (head + 1) * shape.head_size)
            scores = q[:, part] @ k[:, part].T / math.sqrt(shape.head_size)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            context = weights / weights.sum(-1, keepdims=True) @ v[:, part]
            heads.append(gates.attn[layer, head] * context)
        attended = dense(np.concatenate(heads, -1), f"{base}.attention.output.dense")
        h = gated_norm(h + attended, f"{base}.attention.output.LayerNorm")
        x = dense(h, f"{base}.intermediate.dense")
        erf = np.vectorize(math.erf)
        activations = gates.ff[layer] * (x * 0.5 * (1 + erf(x / math.sqrt(2))))
        h = gated_norm(h + dense(activations, f"{base}.output.dense"), f"{base}.output.LayerNorm")
    return dense(h, "qa_outputs").T.ravel()


@pytest.mark.parametrize(
    ("embedding_norm", "norm"), [("weighted", literal_norm), ("plain", literal_plain_norm)]
)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_masks_equal_a_literal_implementation(
    attention: str, embedding_norm: Any, norm: Callable[..., np.ndarray]
) -> None:
    model = tiny_model("bert", attention=attention).double()
    for seed in range(3):
        masks = random_masks(shape_of(model.config), seed)
        ids = torch.randint(5, 70, (1, 12), generator=torch.Generator().manual_seed(seed))
        with apply_masks(model, masks, embedding_norm=embedding_norm):
            found = logits(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        expected = literal_forward(model, masks, ids[0].tolist(), norm)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("architecture", TESTED)
def test_both_readings_of_the_embedding_mask_differ(architecture: str) -> None:
    model = tiny_model(architecture)
    batch = tiny_batch(model)
    masks = random_masks(shape_of(model.config), 0, ("emb",))
    results = []
    for embedding_norm in ("weighted", "plain"):
        with apply_masks(model, masks, embedding_norm=embedding_norm):
            results.append(logits(model, batch))
    assert (results[0] - results[1]).abs().max() > 0.05
    with (
        pytest.raises(GateError, match="'weighted' or 'plain'"),
        apply_masks(model, masks, embedding_norm="literal"),  # type: ignore[arg-type]
    ):
        pass


@pytest.mark.parametrize("embedding_norm", ["weighted", "plain"])
@pytest.mark.parametrize("architecture", TESTED)
def test_open_masks_change_nothing(architecture: str, embedding_norm: Any) -> None:
    model = tiny_model(architecture)
    batch = tiny_batch(model)
    with apply_masks(
        model, Masks.ones(shape_of(model.config), KINDS), embedding_norm=embedding_norm
    ):
        assert_agree(logits(model, batch), logits(tiny_model(architecture), batch))


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [("attn",), ("ff",), ("emb",), KINDS])
@pytest.mark.parametrize("architecture", TESTED)
@settings(max_examples=at_most(4))
@given(seed=st.integers(0, 2**16))
def test_each_example_can_have_gates_of_its_own(
    architecture: str, kinds: tuple[str, ...], seed: int
) -> None:
    model = tiny_model(architecture)
    batch = tiny_batch(model)
    masks = random_masks(shape_of(model.config), seed, kinds, batch=3)
    if architecture == "deberta-v2" and "emb" in kinds:  # relative positions belong to no example
        with pytest.raises(GateError, match="cannot differ by example"), apply_masks(model, masks):
            pass
        return
    with apply_masks(model, masks), torch.no_grad():
        together = model(**batch).start_logits
    for example in range(3):
        own = Masks(**{kind: masks.get(kind)[example] for kind in kinds})
        alone = {name: column[example : example + 1] for name, column in batch.items()}
        with apply_masks(model, own), torch.no_grad():
            expected = model(**alone).start_logits[0]
        real = alone["attention_mask"][0].bool()
        assert_agree(together[example][real], expected[real])


@pytest.mark.parametrize("architecture", ["bert", PROJECTED, "mpnet"])
def test_gradients_of_gates_equal_differences(architecture: str) -> None:
    model = tiny_model(architecture).double().requires_grad_(False)
    batch = tiny_batch(model)
    shape = shape_of(model.config)

    def loss(masks: Masks) -> torch.Tensor:
        with apply_masks(model, masks):
            output = model(**batch)
        return output.start_logits.square().sum() + output.end_logits.sum()

    masks = Masks.ones(shape, KINDS, batch=3, dtype=torch.float64)
    leaves = {kind: masks.get(kind).requires_grad_() for kind in KINDS}
    loss(Masks(**leaves)).backward()
    step = 1e-5
    for kind in KINDS:
        index = (1,) if kind == "emb" else (1, 2)
        for example in range(2):
            shifted = []
            for sign in (1, -1):
                gates = {name: leaf.detach().clone() for name, leaf in leaves.items()}
                gates[kind][(example, *index)] += sign * step
                shifted.append(float(loss(Masks(**gates))))
            gradient = leaves[kind].grad
            assert gradient is not None
            found = float(gradient[(example, *index)])
            assert found == pytest.approx(
                (shifted[0] - shifted[1]) / (2 * step), rel=1e-5, abs=1e-7
            )


def test_bfloat16_norms_keep_the_precision_of_float32_sums() -> None:
    model = tiny_model("bert")
    batch = tiny_batch(model)
    masks = random_masks(shape_of(model.config), 0, ("emb",))
    with apply_masks(model, masks):
        expected = logits(model, batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = logits(model, batch)
    assert_agree(found.float(), expected, tolerance=0.03)


# --- masks that are wrong


def test_masks_of_wrong_shape_or_value_are_refused() -> None:
    model = tiny_model("bert")
    shape = shape_of(model.config)
    wrong = {
        "no mask was given": Masks(),
        "'attn' has shape \\[4, 3\\]": Masks(attn=torch.ones(4, 3)),
        "'attn' has shape \\[3\\]": Masks(attn=torch.ones(3)),
        "'ff' has shape \\[3, 32\\]": Masks(ff=torch.ones(3, 32)),
        "'ff' has shape \\[2, 2, 3, 22\\]": Masks(ff=torch.ones(2, 2, 3, 22)),
        "'emb' has shape \\[22\\]": Masks(emb=torch.ones(22)),
        "'ff' holds values that are not finite": Masks(ff=torch.full(shape.gates("ff"), math.nan)),
        "'attn' holds values": Masks(attn=torch.full(shape.gates("attn"), math.inf)),
        "closes every embedding dimension": Masks(emb=torch.zeros(32)),
        "'emb' closes": Masks(emb=torch.stack([torch.ones(32), torch.zeros(32)])),
    }
    for message, masks in wrong.items():
        with pytest.raises(GateError, match=message), apply_masks(model, masks):
            pytest.fail("the block must not be entered")
    with pytest.raises(GateError, match="no gates of kind 'emb'"):
        Masks.ones(shape, ["attn"]).get("emb")
    assert hooks(model) == 0


def test_a_mask_that_closes_all_dimensions_a_pruned_model_has_is_refused() -> None:
    model = tiny_model("bert")
    topology = random_topology(shape_of(model.config), 0)
    small = prune(model, topology)
    masks = Masks(emb=1 - Masks.from_topology(topology, ("emb",)).get("emb"))
    with pytest.raises(GateError, match="still there"), apply_masks(small, masks):
        pass


def test_a_loop_over_steps_need_not_look_at_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look would wait for a GPU; shapes are checked in any case."""
    model = tiny_model("bert")
    small = prune(model, random_topology(shape_of(model.config), 0))
    masks = Masks.ones(shape_of(model.config), KINDS)
    wrong = Masks(attn=torch.ones(2, 4))
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "__bool__", Mock(side_effect=ZeroDivisionError))
        with apply_masks(small, masks, check_values=False):
            pass
        with pytest.raises(GateError, match="shape"), apply_masks(small, wrong, check_values=False):
            pass
        with pytest.raises(ZeroDivisionError), apply_masks(small, masks):
            pass


def test_masks_give_gradients_after_use_in_inference_mode() -> None:
    model = tiny_model("bert")
    small = prune(model, random_topology(shape_of(model.config), 5))
    masks = Masks.ones(shape_of(model.config), ["ff"])
    assert masks.ff is not None
    with torch.inference_mode(), apply_masks(small, masks):
        small(**tiny_batch(small))
    with apply_masks(small, Masks(ff=masks.ff.requires_grad_())):
        small(**tiny_batch(small)).start_logits.sum().backward()
    assert masks.ff.grad is not None


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("attn", "encoder.layer.1.attention.output.dense"),
        ("ff", "encoder.layer.1.output.dense"),
        ("emb", "encoder.layer.1.output.LayerNorm"),
        ("emb", "encoder.layer.1.attention.output.LayerNorm"),
        ("emb", "embeddings.LayerNorm"),
    ],
)
def test_a_mask_on_a_module_that_was_replaced_is_an_error(kind: str, path: str) -> None:
    model = tiny_model("bert")
    batch = tiny_batch(model)
    old = model.base_model.get_submodule(path)
    new = nn.Linear(old.in_features, 32) if isinstance(old, nn.Linear) else nn.LayerNorm(32)
    with apply_masks(model, Masks.ones(shape_of(model.config), [kind])):
        logits(model, batch)
        model.base_model.set_submodule(path, new)
        with pytest.raises(GateError, match="did not use 1 of") as caught:
            logits(model, batch)
        model.base_model.set_submodule(path, old)
        logits(model, batch)
    where = "embeddings" if path.startswith("embeddings") else "layer.1"
    assert re.search(rf"{kind} .*{where}", str(caught.value))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_on_a_layer_that_is_bypassed_is_an_error(kind: str) -> None:
    model = tiny_model("roberta")
    batch = tiny_batch(model)
    layer = model.base_model.get_submodule("encoder.layer.2")
    layer.forward = lambda hidden, *_, **__: hidden
    with (
        apply_masks(model, Masks.ones(shape_of(model.config), [kind])),
        pytest.raises(GateError, match=r"did not use .*layer.2"),
    ):
        logits(model, batch)


def test_a_pass_that_failed_does_not_count_for_the_next() -> None:
    model = tiny_model("bert")
    batch = tiny_batch(model)
    last, second = (model.base_model.get_submodule(f"encoder.layer.{i}") for i in (2, 1))
    with apply_masks(model, Masks.ones(shape_of(model.config), ["ff"])):
        intact = last.forward
        last.forward = Mock(side_effect=ZeroDivisionError)
        with pytest.raises(ZeroDivisionError):
            logits(model, batch)
        last.forward = intact
        second.forward = lambda hidden, *_, **__: hidden
        with pytest.raises(GateError, match="ff of layer 1"):
            logits(model, batch)


# --- after the block


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_after_the_block_the_model_is_as_before() -> None:
    model = tiny_model(PROJECTED)
    batch = tiny_batch(model)
    before = logits(model, batch)
    masks = random_masks(shape_of(model.config), 0)
    with apply_masks(model, masks):
        masked = logits(model, batch)
        assert hooks(model) > 0
    assert hooks(model) == 0
    assert torch.equal(logits(model, batch), before)
    assert not torch.equal(masked, before)

    def fail() -> None:
        with apply_masks(model, masks):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert hooks(model) == 0
    assert torch.equal(logits(model, batch), before)


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "distilbert"])
@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_one_thread_are_not_those_of_another(architecture: str, kind: str) -> None:
    model, shape = tiny_model(architecture), shape_of(tiny_model(architecture).config)
    batch = tiny_batch(model)
    generator = torch.Generator().manual_seed(0)
    choices = [
        Masks(**{kind: torch.rand(shape.gates(kind), generator=generator)}) for _ in range(3)
    ]

    def alone(masks: Masks | None) -> torch.Tensor:
        with nullcontext() if masks is None else apply_masks(model, masks):
            return logits(model, batch)

    expected = [alone(masks) for masks in (*choices, None)]
    barrier = threading.Barrier(4, timeout=60)  # one that fails keeps none waiting

    def together(masks: Masks | None) -> list[torch.Tensor]:
        with nullcontext() if masks is None else apply_masks(model, masks):
            barrier.wait()
            found = [logits(model, batch) for _ in range(10)]
            barrier.wait()
        return found

    with ThreadPoolExecutor(4) as pool:
        for rows, one in zip(pool.map(together, (*choices, None)), expected, strict=True):
            assert all(torch.equal(row, one) for row in rows)
