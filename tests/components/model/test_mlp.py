"""mlp: piecewise linear."""

import torch

from runner.components.model.mlp import build
from runner.core.data import Info


def test_sizes_and_homogeneity():
    model = build(width=7, depth=2)(Info("classification", (1, 2, 3), 4), None)
    assert [tuple(p.shape) for p in model.parameters()] == [(7, 6), (7,), (7, 7), (7,), (4, 7), (4,)]
    for p in model.parameters():
        if p.dim() == 1:
            torch.nn.init.zeros_(p)
    x = torch.randn(5, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model(3 * x), 3 * model(x), atol=1e-6)  # without biases ReLU networks are homogeneous
    assert len(list(build(depth=0)(Info("classification", (6,), 4), None).parameters())) == 2
