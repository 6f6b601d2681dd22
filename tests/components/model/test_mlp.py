"""mlp: piecewise linear."""

import torch

from runner.components.model.mlp import SReLU, build
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


def test_each_layer_may_have_its_own_width():
    model = build(widths=[7, 3])(Info("classification", (6,), 4), None)
    assert [tuple(p.shape) for p in model.parameters() if p.dim() == 2] == [(7, 6), (3, 7), (4, 3)]


def test_srelu_is_the_formula_of_its_paper():
    """Jin et al. 2016, eq. 1: t_r + a_r (x - t_r) from t_r on, x between, t_l + a_l (x - t_l) up to t_l; at its start a leaky ReLU, as in keras-contrib."""
    unit = SReLU(1)
    with torch.no_grad():
        for parameter, value in zip((unit.left, unit.width, unit.below, unit.above), (-1.0, 3.0, 0.25, 2.0), strict=True):
            parameter.fill_(value)
    x = torch.tensor([-5.0, -1.0, 0.5, 2.0, 4.0]).unsqueeze(1)
    assert torch.equal(unit(x), torch.tensor([-1 + 0.25 * -4, -1.0, 0.5, 2.0, 2 + 2.0 * 2]).unsqueeze(1))
    model = build(widths=[50], activation="srelu")(Info("classification", (6,), 4), None)
    fresh, y = model[2], torch.randn(9, 50, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(fresh(y), torch.where(y < 0, fresh.below * y, y))
    assert 0 <= fresh.below.min() < fresh.below.max() <= 1 < fresh.width.max() <= 5
