import pytest
import torch
from torch.nn import functional as F

from runner.components.loss.entmax import build
from runner.kernels import entmax

Z = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.double)
T = Z.flip(0).softmax(-1)


def test_against_the_authors_package():
    losses = pytest.importorskip("entmax.losses")
    y = torch.tensor([0, 1, 2, 3, 4, 0])
    assert torch.allclose(build()(Z, y), losses.Entmax15Loss(reduction="none")(Z, y))
    assert torch.allclose(build(1.25)(Z, y), losses.EntmaxBisectLoss(1.25, reduction="none")(Z, y))


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0, 2.5])
def test_gradient_is_the_difference_of_the_distributions(alpha):
    z = Z.clone().requires_grad_()
    build(alpha)(z, T).sum().backward()
    assert torch.allclose(z.grad, entmax(Z, alpha) - T, atol=1e-8)
    assert torch.autograd.gradcheck(lambda v: build(alpha)(v, T), (z,))


def test_alpha_1_is_cross_entropy_less_the_entropy_of_the_target():
    assert torch.allclose(build(1.0)(Z, T), F.cross_entropy(Z, T, reduction="none") + (T * T.log()).sum(-1))
    assert torch.equal(build(1.0)(Z, torch.arange(6) % 5), F.cross_entropy(Z, torch.arange(6) % 5, reduction="none"))


@pytest.mark.parametrize("alpha", [1.25, 1.5, 3.0])
def test_margin(alpha):
    """A lead of 1 / (alpha - 1) costs nothing, a smaller one something."""
    lead = torch.tensor([[1 / (alpha - 1), 0.0, 0.0], [0.9 / (alpha - 1), 0.0, 0.0]], dtype=torch.double)
    loss = build(alpha)(lead, torch.tensor([0, 0]))
    assert loss[0].abs() < 1e-9
    assert loss[1] > 1e-5
