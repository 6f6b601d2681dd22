import math

import torch
from torch.nn import functional as F

from runner.components.loss.ce import build


def test_matches_torch_for_indices_and_probabilities():
    g = torch.Generator().manual_seed(0)
    z, y = torch.randn(6, 5, generator=g), torch.randint(5, (6,), generator=g)
    t = torch.softmax(torch.randn(6, 5, generator=g), -1)
    assert torch.equal(build()(z, y), F.cross_entropy(z, y, reduction="none"))
    assert torch.allclose(build()(z, t), F.cross_entropy(z, t, reduction="none"))


def test_leading_dimensions_and_uniform_logits():
    y = torch.tensor([[0, 1, 2], [3, 0, 1]])
    assert torch.allclose(build()(torch.full((2, 3, 4), 7.0), y), torch.full((2, 3), math.log(4)))
