"""Hard-concrete gates against Monte Carlo, closed forms and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qaprune_lib.errors import GateError
from qaprune_lib.gates import HardConcrete

ALPHAS = (-4.0, -1.6, 0.0, 0.7, 2.5, 5.0)


def gates_at(alphas: tuple[float, ...]) -> HardConcrete:
    gates = HardConcrete((len(alphas),))
    with torch.no_grad():
        gates.log_alpha.copy_(torch.tensor(alphas))
    return gates


def literal_samples(alpha: float, n: int = 1_000_000) -> np.ndarray:
    """Louizos et al. 2017, word by word, in numpy."""
    u = np.random.default_rng(1).uniform(size=n)
    s = 1 / (1 + np.exp(-(np.log(u) - np.log(1 - u) + alpha) / (2 / 3)))
    stretched = s * (1.1 - (-0.1)) + (-0.1)
    return np.minimum(1, np.maximum(0, stretched))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_probabilities_and_mean_equal_monte_carlo(alpha: float) -> None:
    samples = literal_samples(alpha)
    gates = gates_at((alpha,))
    # five standard errors of a million samples
    assert gates.probability("nonzero").item() == pytest.approx((samples > 0).mean(), abs=2.5e-3)
    assert gates.probability("one").item() == pytest.approx((samples == 1).mean(), abs=2.5e-3)
    assert gates.mean().item() == pytest.approx(samples.mean(), abs=2.5e-3)


def test_probabilities_equal_their_closed_forms() -> None:
    gates = gates_at(ALPHAS)
    alpha = torch.tensor(ALPHAS)
    assert gates.probability().allclose(torch.sigmoid(alpha + 1.5986), atol=1e-5)
    assert gates.probability("one").allclose(torch.sigmoid(alpha - 1.5986), atol=1e-5)
    assert gates.probability("nonzero").equal(gates.probability())
    slopes = []
    for of in ("nonzero", "one"):
        alone = gates_at((2.5,))
        alone.probability(of).backward()
        assert alone.log_alpha.grad is not None
        slopes.append(float(alone.log_alpha.grad))
    assert slopes[1] / slopes[0] == pytest.approx(13, rel=0.05)
    with pytest.raises(GateError, match="'zero'"):
        gates.probability("zero")  # type: ignore[arg-type]


def test_samples_are_distributed_as_the_literal_ones() -> None:
    for alpha in (-1.0, 0.5, 2.5):
        gates = HardConcrete((200_000,), initial_mean=alpha, initial_deviation=0.0)
        found = gates.sample(torch.Generator().manual_seed(2)).detach().numpy()
        expected = literal_samples(alpha)
        points = np.linspace(0, 1, 21)
        # 1.95 / sqrt(n) is the 0.1% point of the Kolmogorov-Smirnov distance
        distance = max(abs((found <= p).mean() - (expected <= p).mean()) for p in points)
        assert distance < 1.95 / np.sqrt(200_000) + 1.95 / np.sqrt(1_000_000)


def test_gradients_of_samples_equal_finite_differences() -> None:
    gates = HardConcrete((400,), initial_mean=0.5, initial_deviation=1.0).double()
    with torch.no_grad():
        start = gates.log_alpha.clone()

    def sample(alpha: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            gates.log_alpha.copy_(alpha)
        return gates.sample(torch.Generator().manual_seed(3))

    samples = sample(start)
    samples.sum().backward()
    gradient = gates.log_alpha.grad
    step = 1e-6
    numeric = (sample(start + step) - sample(start - step)).detach() / (2 * step)
    assert gradient is not None
    assert torch.allclose(gradient, numeric, atol=1e-6)
    inside = (samples > 0) & (samples < 1)
    assert 50 < int(inside.sum()) < 350
    assert (gradient[inside] > 0).all()
    assert (gradient[~inside] == 0).all()


def test_sampling_and_initial_values_follow_their_generators() -> None:
    def draw(initial: int, sampling: int) -> tuple[torch.Tensor, torch.Tensor]:
        gates = HardConcrete((3, 4), generator=torch.Generator().manual_seed(initial))
        return gates.log_alpha.detach(), gates.sample(torch.Generator().manual_seed(sampling))

    alpha, sample = draw(0, 1)
    assert all(torch.equal(a, b) for a, b in zip(draw(0, 1), (alpha, sample), strict=True))
    assert not torch.equal(draw(2, 1)[0], alpha)
    assert torch.equal(draw(0, 2)[0], alpha)
    assert not torch.equal(draw(0, 2)[1], sample)
    state = torch.get_rng_state()
    draw(0, 1)
    assert torch.equal(torch.get_rng_state(), state)


def test_initial_values_and_types() -> None:
    gates = HardConcrete((50, 100), initial_mean=2.0, initial_deviation=0.1)
    assert gates.log_alpha.dtype == torch.float32
    assert gates.log_alpha.mean().item() == pytest.approx(2.0, abs=0.01)
    assert gates.log_alpha.std().item() == pytest.approx(0.1, rel=0.1)
    for values in (gates.sample(), gates.mean(), gates.probability()):
        assert values.dtype == torch.float32
        assert values.shape == (50, 100)
        assert bool(((values >= 0) & (values <= 1)).all())


@pytest.mark.parametrize("extreme", [-200.0, 200.0])
def test_extreme_values_saturate_without_nan(extreme: float) -> None:
    gates = gates_at((extreme,))
    expected = float(extreme > 0)
    sample = gates.sample()
    sample.sum().backward()
    for values in (sample, gates.mean(), gates.probability("one"), gates.probability()):
        assert values.item() == pytest.approx(expected, abs=1e-6)
    assert gates.log_alpha.grad is not None
    assert torch.isfinite(gates.log_alpha.grad).all()
