import math

import pytest
import torch
from torch.nn import functional as F

from runner.components.loss.gce import build


def test_by_hand():
    z = torch.tensor([[math.log(1), math.log(3)]])  # p = (1/4, 3/4)
    assert build(0.5)(z, torch.tensor([0])).item() == pytest.approx((1 - 0.5) / 0.5)
    assert build(1.0)(z, torch.tensor([1])).item() == pytest.approx(0.25)


def test_between_cross_entropy_and_absolute_error():
    g = torch.Generator().manual_seed(0)
    z, y = 4 * torch.randn(50, 6, generator=g), torch.randint(6, (50,), generator=g)
    assert torch.allclose(build(1e-6)(z, y), F.cross_entropy(z, y, reduction="none"), atol=1e-4)
    assert torch.allclose(2 * build(1.0)(z, y), (F.one_hot(y, 6) - z.softmax(-1)).abs().sum(-1), atol=1e-6)


def test_gradient_is_that_of_cross_entropy_times_p_to_the_q():
    """Zhang & Sabuncu, section 3.3: each sample of cross entropy weighted by p_y^q."""
    g = torch.Generator().manual_seed(1)
    z, y = torch.randn(8, 5, generator=g, dtype=torch.double).requires_grad_(), torch.randint(5, (8,), generator=g)
    (mine,) = torch.autograd.grad(build(0.7)(z, y).sum(), z)
    (plain,) = torch.autograd.grad(F.cross_entropy(z, y, reduction="sum"), z)
    p = z.detach().softmax(-1).gather(1, y[:, None])
    assert torch.allclose(mine, p**0.7 * plain, atol=1e-12)


def test_confident_and_wrong_is_finite_in_low_precision():
    z = torch.tensor([[300.0, -300.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = build()(z, torch.tensor([1]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(1 / 0.7)
    assert torch.isfinite(z.grad).all()
