"""linear: with squared loss and full batches it ends at the solution of the normal equations."""

import torch

from runner.components.model.linear import build
from runner.core.data import Info


def test_it_reaches_least_squares():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 2, 2, generator=generator), torch.randn(50, 3, generator=generator)
    model = build(zero=True)(Info("regression", (2, 2), 3), None)
    assert torch.equal(model(x), torch.zeros(50, 3))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=100, tolerance_grad=1e-9, tolerance_change=1e-12)

    def loss():
        optimizer.zero_grad()
        value = (model(x) - y).square().mean()
        value.backward()
        return value

    optimizer.step(loss)
    design = torch.cat([x.flatten(1), torch.ones(50, 1)], 1)
    wanted = torch.linalg.lstsq(design, y).solution
    assert torch.allclose(model(x), design @ wanted, atol=1e-3)


def test_no_bias():
    model = build(bias=False)(Info("classification", (7,), 2), None)
    assert sum(p.numel() for p in model.parameters()) == 14
