import math

import pytest
import torch

from runner.components.optimizer.adam import build


def test_two_steps_by_hand():
    """Kingma & Ba, algorithm 1, in plain Python."""
    w = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.double))
    optimizer = build(lr=0.1, beta1=0.8, beta2=0.9, eps=0.01)([w])
    x, m, v = 2.0, 0.0, 0.0
    for t, g in enumerate((3.0, -1.0), 1):
        w.grad = torch.tensor([g], dtype=torch.double)
        optimizer.step()
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        x -= 0.1 * (m / (1 - 0.8**t)) / (math.sqrt(v / (1 - 0.9**t)) + 0.01)
        assert w.item() == pytest.approx(x, rel=1e-12)


def test_weight_decay_goes_through_the_statistics():
    w = torch.nn.Parameter(torch.tensor([5.0]))
    w.grad = torch.zeros(1)
    build(lr=0.1, weight_decay=0.3)([w]).step()
    assert w.item() == pytest.approx(4.9, abs=1e-5)  # a first step is lr long, whatever the size of the gradient
