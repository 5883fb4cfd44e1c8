"""Optimal brain surgeon against least squares of its own, and against loops over single windows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qaprune_lib.errors import GateError, SettingsError
from qaprune_lib.models import Encoder, QuestionAnsweringModel, Topology, shape_of
from qaprune_lib.models.encoder import OUTPUT_PROJECTIONS
from qaprune_lib.pruning import prune
from qaprune_lib.scorers import surgeon
from qaprune_lib.training.objectives import drawn_labels
from tests.models.tiny import TESTED, random_topology, tiny_model
from tests.quick import at_most
from tests.training.toy import WINDOWS, single_windows, toy_questions, toy_windows

module: Any = sys.modules["qaprune_lib.scorers.surgeon"]
QUESTIONS = toy_questions(12)
RIDGE = 1e-2


def least_loss(
    weight: np.ndarray, gram: np.ndarray, sensitivity: np.ndarray, gone: list[int]
) -> float:
    """Minimum of ½ tr(G Δ A Δᵀ) where Δ takes these columns to 0, by weighted least squares."""
    root_a, root_g = np.linalg.cholesky(gram).T, np.linalg.cholesky(sensitivity).T
    free = [column for column in range(len(gram)) if column not in gone]
    # Δᵀ = E_free Z − E_gone W_goneᵀ: the distance of root_a E_free Z from root_a E_gone W_goneᵀ
    goal = root_a[:, gone] @ weight[:, gone].T @ root_g.T
    fitted = np.zeros_like(goal)
    if free:
        fitted = root_a[:, free] @ np.linalg.lstsq(root_a[:, free], goal, rcond=None)[0]
    return float(((fitted - goal) ** 2).sum() / 2)


@given(
    size=st.integers(1, 3), n_slices=st.integers(1, 5), bias=st.booleans(), seed=st.integers(0, 99)
)
@settings(max_examples=at_most(40))
def test_each_removal_is_the_cheapest_and_adds_the_least_loss_that_is_left(
    size: int, n_slices: int, bias: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    width = size * n_slices
    projection = nn.Linear(width, 4, bias=bias).double()
    inputs = random.normal(size=(30, width)) @ random.normal(size=(width, width))
    inputs = np.hstack([inputs, np.ones((30, int(bias)))])
    gradients = random.normal(size=(30, 4)) * [1, 2, 3, 0.1]
    curvature = module._Curvature(
        torch.tensor(inputs.T @ inputs), torch.tensor(gradients.T @ gradients), tokens=30, windows=5
    )
    order, losses = module._removals(projection, curvature, size, RIDGE)

    gram = inputs.T @ inputs / 30
    gram += RIDGE * gram.diagonal().mean() * np.eye(len(gram))
    sensitivity = gradients.T @ gradients / 5
    weight = projection.weight.detach().numpy()

    def loss_without(slices: list[int]) -> float:
        columns = [size * each + place for each in slices for place in range(size)]
        return least_loss(weight, gram, sensitivity, columns)

    assert sorted(order) == list(range(n_slices))
    for number in range(n_slices):
        before, left = order[:number].tolist(), sorted({*range(n_slices)} - {*order[:number]})
        added = [loss_without([*before, each]) - loss_without(before) for each in left]
        assert losses[number] == pytest.approx(min(added), rel=1e-6, abs=1e-9)
        assert added[left.index(order[number])] == pytest.approx(min(added), rel=1e-6, abs=1e-9)


def test_slices_that_go_together_add_the_loss_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(0)
    inputs, gradients = (torch.randn(99, n, generator=random, dtype=torch.float64) for n in (40, 4))
    projection = nn.Linear(40, 4, bias=False).double()
    found = {}
    for rounds in (64, 2):
        monkeypatch.setattr(module, "_ROUNDS", rounds)
        curvature = module._Curvature(inputs.T @ inputs, gradients.T @ gradients, 99, 9)
        found[rounds] = module._removals(projection, curvature, 1, RIDGE)
    gram, sensitivity = (inputs.T @ inputs).numpy() / 99, (gradients.T @ gradients).numpy() / 9
    gram = gram + RIDGE * gram.diagonal().mean() * np.eye(40)
    for order, losses in found.values():
        for count in (1, 20, 30, 35, 40):
            all_gone = least_loss(
                projection.weight.detach().numpy(), gram, sensitivity, order[:count].tolist()
            )
            assert losses[:count].sum() == pytest.approx(all_gone)
    assert found[64][1][:20].sum() < found[2][1][:20].sum()  # one by one is the better order


@pytest.fixture
def fixed_answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def drawn(_: Any, batch: Any, __: Any) -> dict[str, torch.Tensor]:
        ones = torch.ones(len(batch["input_ids"]), dtype=torch.int64)
        return {"start_positions": ones, "end_positions": 2 * ones}

    monkeypatch.setattr(module, "drawn_labels", drawn)
    return


@pytest.mark.slow
@pytest.mark.parametrize("architecture", TESTED)
@pytest.mark.usefixtures("fixed_answers")
def test_sums_equal_a_loop_over_single_windows(architecture: str) -> None:
    model = tiny_model(architecture, trained=True).double()
    features = toy_windows(model, QUESTIONS)
    found = module._curvatures(model, features, ("attn", "ff"), 0)

    encoder = Encoder(model)
    for (kind, layer), curvature in found.items():
        projection: Any = encoder.module(layer, OUTPUT_PROJECTIONS[kind])
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []

        def keep(_: Any, inputs: Any, output: Any, seen: Any = seen) -> None:
            output.retain_grad()
            seen.append((inputs[0][0].detach(), output))

        handle = projection.register_forward_hook(keep)
        for window, _, _ in single_windows(model, features):
            made = model(**window)
            loss = sum(
                torch.nn.functional.cross_entropy(logits, torch.tensor([at])) / 2
                for logits, at in ((made.start_logits, 1), (made.end_logits, 2))
            )
            loss.backward()  # type: ignore[union-attr]
        handle.remove()
        x = torch.cat([inputs for inputs, _ in seen])
        g = torch.cat([output.grad[0] for _, output in seen])  # type: ignore[index]
        if projection.bias is not None:
            x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
        torch.testing.assert_close(curvature.inputs, x.T @ x, rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(curvature.gradients, g.T @ g, rtol=1e-5, atol=1e-12)
        assert (curvature.tokens, curvature.windows) == (len(x), len(features))


def divergence(model: QuestionAnsweringModel, other: QuestionAnsweringModel) -> float:
    """Mean over windows of the divergence of one model's spans from the other's."""
    total = count = 0.0
    for window, _, _ in single_windows(model, toy_windows(model, QUESTIONS)):
        with torch.inference_mode():
            pairs = [
                (getattr(each(**window), name)[0].log_softmax(-1) for each in (model, other))
                for name in ("start_logits", "end_logits")
            ]
        total += sum(float((p.exp() * (p - q)).sum().detach()) / 2 for p, q in pairs)
        count += 1
    return total / count


def test_scores_are_about_the_divergence_that_is_left_after_reconstruction() -> None:
    model = tiny_model("bert", num_hidden_layers=1, intermediate_size=32, trained=True)
    scores = surgeon(model, QUESTIONS, kinds=["ff"], **WINDOWS)
    for fraction in (0.1, 0.3):
        kept = Topology.from_scores(scores, fraction=fraction)
        said = scores.get("ff")[~kept.mask("ff")].sum()
        mended = prune(model, kept, reconstruct=QUESTIONS, **WINDOWS)
        assert 0.2 < divergence(model, mended) / said < 5


@pytest.mark.parametrize("architecture", TESTED)
def test_a_pruned_model_scores_what_it_has_left(architecture: str) -> None:
    model = tiny_model(architecture, trained=True)
    shape = shape_of(model.config)
    drawn = random_topology(shape, seed=1)  # a layer without heads, one without activations
    kept = Topology.from_masks(shape, {kind: drawn.mask(kind) for kind in ("attn", "ff")})
    scores = surgeon(prune(model, kept), QUESTIONS, **WINDOWS)
    for kind in ("attn", "ff"):
        assert np.array_equal(np.isfinite(scores.get(kind)), kept.mask(kind))
        assert (scores.get(kind)[kept.mask(kind)] >= 0).all()


def test_answers_are_drawn_as_the_model_says_and_never_at_padding() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, 9.0]]).repeat(4000, 1)
    mask = torch.tensor([[1, 1, 1, 0]]).repeat(4000, 1)
    outputs = {"start_logits": logits, "end_logits": -logits}
    generator = torch.Generator().manual_seed(0)
    labels = drawn_labels(outputs, {"attention_mask": mask}, generator)
    for name, sign in (("start_positions", 1), ("end_positions", -1)):
        shares = torch.bincount(labels[name], minlength=4) / 4000
        expected = (sign * logits[0, :3]).softmax(-1)
        torch.testing.assert_close(shares[:3], expected, atol=0.03, rtol=0)
        assert shares[3] == 0


def test_the_same_seed_gives_the_same_scores_and_answers_are_not_read() -> None:
    model = tiny_model("bert", trained=True)
    others = QUESTIONS.remove_columns("answers").add_column(
        "answers", [{"text": [], "answer_start": []}] * len(QUESTIONS)
    )
    first, again, other = (
        surgeon(model, rows, seed=seed, **WINDOWS).get("ff")
        for rows, seed in ((QUESTIONS, 0), (others, 0), (QUESTIONS, 1))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_small_factors_are_computed_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """In several, on busy cores, they wait for each other; the number of threads comes back."""
    used: dict[str, set[int]] = {}

    def counted(name: str, done: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **to: Any) -> Any:
            used.setdefault(name, set()).add(torch.get_num_threads())
            return done(*given, **to)

        return call

    for name in ("eigh", "solve_triangular", "solve"):
        monkeypatch.setattr(torch.linalg, name, counted(name, getattr(torch.linalg, name)))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        surgeon(tiny_model("bert"), toy_questions(6), **WINDOWS)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert used == {"eigh": {1}, "solve_triangular": {1}, "solve": {1}}


def test_what_it_cannot_do_is_refused() -> None:
    model = tiny_model("bert", trained=True)
    for settings_, says in (
        ({"kinds": ["emb"]}, "embedding dimensions"),
        ({"ridge": 0}, "ridge=0 must be positive"),
        ({"ridge": float("nan")}, "ridge=nan"),
        ({"seed": -1}, "seed"),
        ({"kinds": ["heads"]}, "kinds of gates"),
    ):
        with pytest.raises(SettingsError, match=says):
            surgeon(model, QUESTIONS, **settings_, **WINDOWS)  # type: ignore[arg-type]


def test_weights_that_are_no_numbers_are_refused() -> None:
    model = tiny_model("bert", trained=True)
    with torch.no_grad():
        model.qa_outputs.weight.fill_(float("nan"))  # type: ignore[operator, union-attr]
    with pytest.raises(GateError, match="layer 0 hold NaN"):
        surgeon(model, QUESTIONS, **WINDOWS)


@pytest.mark.slow
def test_reconstruction_agrees_on_what_to_keep() -> None:
    """Of random topologies of as many activations, few lose less once they are mended."""
    model = tiny_model("bert", num_hidden_layers=2, intermediate_size=16, trained=True)
    kept = Topology.from_scores(surgeon(model, QUESTIONS, kinds=["ff"], **WINDOWS), fraction=0.5)
    ours, *others = (
        divergence(model, prune(model, at, reconstruct=QUESTIONS, **WINDOWS))
        for at in (kept, *(kept.shuffled(seed) for seed in range(12)))
    )
    assert ours < sorted(others)[2]
