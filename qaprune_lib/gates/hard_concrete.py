"""Hard-concrete gates (Louizos et al. 2017; paper section 3.2, Eq. 2 and 3)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

from qaprune_lib.errors import GateError

PenaltyOn = Literal["nonzero", "one"]


class HardConcrete(nn.Module):
    """Gates γ ~ hc(α), with one `log_alpha` each, in float32.

    u ~ U(0, 1), s = σ((log u − log(1−u) + α)/β), γ = clamp(s(ζ−g) + g, 0, 1).

    >>> gates = HardConcrete((2, 3), generator=torch.Generator().manual_seed(0))
    >>> gates.sample().shape, bool((gates.probability("nonzero") > 0.9).all())
    (torch.Size([2, 3]), True)

    Args:
        shape: shape of the gates, any.
        initial_mean: mean of the initial α; 2 to 3 starts the gates open without losing their
            gradient.
        initial_deviation: standard deviation of the initial α.
        generator: source of the initial values (the seed of the gates).
    """

    low = -0.1
    high = 1.1
    temperature = 2 / 3

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        initial_mean: float = 2.5,
        initial_deviation: float = 0.01,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        noise = torch.randn(shape, generator=generator)
        self.log_alpha = nn.Parameter(initial_mean + initial_deviation * noise)

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """One sample of every gate, differentiable in α (the reparameterisation trick)."""
        u = torch.rand(self.log_alpha.shape, generator=generator).to(self.log_alpha.device)
        u = u.clamp(torch.finfo(u.dtype).tiny, 1 - torch.finfo(u.dtype).eps)
        s = torch.sigmoid((u.log() - (-u).log1p() + self.log_alpha) / self.temperature)
        return (s * (self.high - self.low) + self.low).clamp(0, 1)

    def probability(self, of: PenaltyOn = "nonzero") -> torch.Tensor:
        """P(γ ≠ 0), which the public implementations penalise, or P(γ = 1), as in Eq. (3)."""
        shift = self.temperature * math.log(-self.low / self.high)
        if of == "nonzero":
            return torch.sigmoid(self.log_alpha - shift)
        if of == "one":
            return torch.sigmoid(self.log_alpha + shift)
        raise GateError(f"probability of {of!r}: it must be of 'nonzero' or of 'one'")

    def mean(self) -> torch.Tensor:
        """E[γ], by numerical integration over the quantiles of γ; same shape as α."""
        log_alpha = self.log_alpha.detach().double()
        n_points = 500
        u = (torch.arange(n_points, dtype=torch.float64, device=log_alpha.device) + 0.5) / n_points
        logistic = u.log() - (-u).log1p()
        s = torch.sigmoid((logistic + log_alpha[..., None]) / self.temperature)
        gates = (s * (self.high - self.low) + self.low).clamp(0, 1)
        return gates.mean(-1).float()
