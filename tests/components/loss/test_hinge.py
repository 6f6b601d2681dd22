"""hinge: scikit-learn's; a mean over soft targets."""

import pytest
import torch
from sklearn.metrics import hinge_loss

from runner.components.loss.hinge import build


def test_like_scikit_learns():
    g = torch.Generator().manual_seed(0)
    z, y = 2 * torch.randn(200, 4, generator=g), torch.randint(4, (200,), generator=g)
    assert build()(z, y).mean().item() == pytest.approx(hinge_loss(y, z, labels=[0, 1, 2, 3]), rel=1e-5)


def test_two_classes_and_soft_targets():
    z = torch.tensor([[2.0, 0.5], [0.0, 0.4]])
    assert build()(z, torch.tensor([0, 0])).tolist() == pytest.approx([0.0, 1.4])
    assert build()(z, torch.tensor([[0.5, 0.5], [0.25, 0.75]])).tolist() == pytest.approx([1.25, 0.25 * 1.4 + 0.75 * 0.6])


def test_a_single_class_costs_nothing_and_many_take_no_square():
    loss, z = build(), torch.randn(3, 1, requires_grad=True)
    zero = loss(z, torch.zeros(3, dtype=torch.long))
    (slope,) = torch.autograd.grad(zero.sum(), z)
    assert zero.tolist() == slope[:, 0].tolist() == [0, 0, 0]
    z = torch.randn(2, 3, 50_000)  # whose square would be 60 GB
    z[..., 7], z[..., 9] = 30.0, 29.0
    target = torch.tensor([[7, 9, 0]] * 2)
    assert torch.allclose(loss(z, target), torch.stack([torch.zeros(2), torch.full((2,), 2.0), 31 - z[:, 2, 0]], -1))


def test_a_class_that_is_absent():
    logits = torch.tensor([[1.0, 1.5, -torch.inf]], requires_grad=True)
    hard, soft = build()(logits, torch.tensor([0])), build()(logits, torch.tensor([[1.0, 0.0, 0.0]]))
    assert hard.item() == soft.item() == 1.5
    assert build()(logits, torch.tensor([[0.5, 0.5, 0.0]])).item() == (1.5 + 0.5) / 2
    (slopes,) = torch.autograd.grad(soft.sum(), logits)
    assert slopes.tolist() == [[-1.0, 1.0, 0.0]]
