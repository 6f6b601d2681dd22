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
