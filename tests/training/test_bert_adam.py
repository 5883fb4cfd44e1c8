"""BERT's Adam against the published update, written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from qaprune_lib.training.bert_adam import BertAdam


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_several_steps_equal_the_literal_update(weight_decay: float) -> None:
    rng = np.random.default_rng(0)
    start = [rng.standard_normal((3, 4)), rng.standard_normal(5)]
    parameters = [torch.nn.Parameter(torch.from_numpy(values.copy())) for values in start]
    optimizer = BertAdam(parameters, lr=0.1, weight_decay=weight_decay)
    theta = [values.copy() for values in start]
    m = [np.zeros_like(values) for values in start]
    v = [np.zeros_like(values) for values in start]
    for step in range(6):
        rate = 0.1 * (1 - step / 6)  # as a schedule sets it
        optimizer.param_groups[0]["lr"] = rate
        for i, scale in enumerate((5.0, 0.1)):  # one tensor is clipped, the other is not
            g = scale * rng.standard_normal(theta[i].shape)
            parameters[i].grad = torch.from_numpy(g.copy())
            norm = math.sqrt((g**2).sum())
            if norm > 1:
                g = g / (norm + 1e-6)
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g**2
            theta[i] -= rate * (m[i] / (np.sqrt(v[i]) + 1e-6) + weight_decay * theta[i])
        optimizer.step()
        for found, expected in zip(parameters, theta, strict=True):
            np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5)


def test_decay_alone_pulls_log_alpha_to_zero_and_no_gradient_moves_nothing() -> None:
    pulled, idle = (torch.nn.Parameter(torch.full((3,), 2.5)) for _ in range(2))
    optimizer = BertAdam([pulled, idle], lr=0.1)
    for _ in range(10):
        pulled.grad = torch.zeros(3)
        optimizer.step()
    np.testing.assert_allclose(pulled.detach(), 2.5 * (1 - 0.1 * 0.01) ** 10, rtol=1e-6)
    assert (idle == 2.5).all()
