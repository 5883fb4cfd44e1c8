"""BERT's own Adam, the optimizer that the paper names (section 4.2.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import Parameter


class BertAdam(torch.optim.Optimizer):
    """Adam as published with BERT: no bias correction, decoupled weight decay, clipped gradients.

    m ← β1·m + (1−β1)·g, v ← β2·v + (1−β2)·g², θ ← θ − lr·(m/(√v + ε) + decay·θ), where g is the
    gradient of one tensor clipped at norm `max_grad_norm`. Weight decay also pulls the log_alpha
    of gates towards 0.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        max_grad_norm: float = 1.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "max_grad_norm": max_grad_norm,
        }
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad
                norm = gradient.norm()
                scale = (group["max_grad_norm"] / (norm + 1e-6)).clamp(max=1.0)
                gradient = gradient * scale
                state = self.state[parameter]
                if not state:
                    state["mean"] = torch.zeros_like(parameter)
                    state["variance"] = torch.zeros_like(parameter)
                state["mean"].lerp_(gradient, 1 - beta1)
                state["variance"].lerp_(gradient.square(), 1 - beta2)
                update = state["mean"] / (state["variance"].sqrt() + group["eps"])
                parameter.sub_(group["lr"] * (update + group["weight_decay"] * parameter))
        return loss
