import torch
from torch.nn import functional as F

from runner.components.loss.label_smoothing import build


def test_matches_torch():
    g = torch.Generator().manual_seed(0)
    z, y = torch.randn(8, 6, generator=g), torch.randint(6, (8,), generator=g)
    t = torch.softmax(torch.randn(8, 6, generator=g), -1)
    for target in (y, t):
        assert torch.allclose(build(0.2)(z, target), F.cross_entropy(z, target, label_smoothing=0.2, reduction="none"), atol=1e-6)


def test_eps_zero_and_one():
    g = torch.Generator().manual_seed(1)
    z, y = torch.randn(8, 6, generator=g), torch.randint(6, (8,), generator=g)
    assert torch.equal(build(0.0)(z, y), F.cross_entropy(z, y, reduction="none"))
    assert torch.allclose(build(1.0)(z, y), build(1.0)(z, (y + 1) % 6))  # the label no longer matters
