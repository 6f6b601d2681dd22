import pytest
import torch

from runner.components.optimizer.sgd import build


def test_heavy_ball_by_hand():
    w = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = build(lr=0.1, momentum=0.5, weight_decay=0.2)([w])
    for gradient, want in ((1.0, 1 - 0.1 * 1.2), (0.0, None)):
        w.grad = torch.tensor([gradient])
        before = w.item()
        optimizer.step()
        if want is None:
            want = before - 0.1 * (0.5 * 1.2 + 0.2 * before)
        assert w.item() == pytest.approx(want, rel=1e-6)


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match="momentum"):
        build(momentum=0.0, nesterov=True)
