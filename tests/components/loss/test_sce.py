import math

import pytest
import torch
from torch.nn import functional as F

from runner.components.loss.sce import build


def test_hard_labels_closed_form():
    """Reverse cross entropy of a one-hot label is -log(floor) * (1 - p_y)."""
    g = torch.Generator().manual_seed(0)
    z, y = torch.randn(9, 10, generator=g), torch.randint(10, (9,), generator=g)
    p = z.softmax(-1).gather(1, y[:, None]).squeeze(1)
    want = 0.1 * F.cross_entropy(z, y, reduction="none") + 4 * math.log(10) * (1 - p)
    assert torch.allclose(build()(z, y), want, atol=1e-5)


def test_soft_labels_by_hand():
    p, t = (0.5, 0.25, 0.25), (0.75, 0.25, 0.0)
    z, target = torch.tensor([p]).log(), torch.tensor([t])
    forward = -sum(b * math.log(a) for a, b in zip(p, t, strict=True))
    backward = -(0.5 * math.log(0.75) + 0.25 * math.log(0.25) + 0.25 * math.log(0.01))
    assert build(2.0, 3.0, floor=0.01)(z, target).item() == pytest.approx(2 * forward + 3 * backward, rel=1e-6)


def test_the_reverse_part_is_symmetric():
    z = 3 * torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    total = sum(build(0.0, 1.0)(z, torch.full((4,), c)) for c in range(5))
    assert torch.allclose(total, torch.full((4,), 4 * 4 * math.log(10)), rtol=1e-5)
