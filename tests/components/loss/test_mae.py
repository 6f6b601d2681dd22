import torch
from torch.nn import functional as F

from runner.components.loss.mae import build


def test_is_the_distance_to_the_label():
    g = torch.Generator().manual_seed(0)
    z, y = torch.randn(7, 5, generator=g), torch.randint(5, (7,), generator=g)
    assert torch.allclose(build()(z, y), (F.one_hot(y, 5) - z.softmax(-1)).abs().sum(-1), atol=1e-6)


def test_is_symmetric():
    """Ghosh et al., definition 1: the sum over the classes is the same for every prediction."""
    z = 5 * torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    total = sum(build()(z, torch.full((4,), c)) for c in range(6))
    assert torch.allclose(total, torch.full((4,), 2.0 * 5), atol=1e-5)


def test_soft_targets_are_the_mean_over_labels():
    z, t = torch.randn(3, 4, generator=torch.Generator().manual_seed(2)), torch.tensor([[0.5, 0.5, 0, 0], [0.1, 0.2, 0.3, 0.4], [0, 0, 1, 0]])
    parts = torch.stack([build()(z, torch.full((3,), c)) for c in range(4)], -1)
    assert torch.allclose(build()(z, t), (t * parts).sum(-1), atol=1e-6)
