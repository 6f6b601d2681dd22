import math

import pytest
import torch
from torch.nn import functional as F

from runner.components.loss.focal import build


def test_by_hand():
    z = torch.tensor([[0.5, 0.25, 0.25]]).log()
    assert build(2.0)(z, torch.tensor([0])).item() == pytest.approx(0.25 * math.log(2), rel=1e-6)
    assert build(1.0)(z, torch.tensor([[0.5, 0.5, 0.0]])).item() == pytest.approx(0.5 * 0.5 * math.log(2) + 0.5 * 0.75 * math.log(4), rel=1e-6)


def test_gamma_zero_is_cross_entropy():
    g = torch.Generator().manual_seed(0)
    z, y = 4 * torch.randn(9, 5, generator=g), torch.randint(5, (9,), generator=g)
    assert torch.allclose(build(0.0)(z, y), F.cross_entropy(z, y, reduction="none"))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_gradient_and_certain_predictions(gamma):
    g = torch.Generator().manual_seed(1)
    z, y = torch.randn(5, 4, generator=g, dtype=torch.double).requires_grad_(), torch.randint(4, (5,), generator=g)
    assert torch.autograd.gradcheck(lambda v: build(gamma)(v, y), (z,))
    sure = torch.tensor([[200.0, 0.0]], requires_grad=True)
    (build(gamma)(sure, torch.tensor([0])) + build(gamma)(sure, torch.tensor([1]))).sum().backward()
    assert torch.isfinite(sure.grad).all()
