import torch
from torch.nn import functional as F

from runner.components.loss.mse import build


def test_one_value_a_sample():
    g = torch.Generator().manual_seed(0)
    for shape in ((6, 3), (2, 6, 3)):
        z, t = torch.randn(shape, generator=g), torch.randn(shape, generator=g)
        assert build()(z, t).shape == shape[:-1]
        assert torch.allclose(build()(z, t).mean(), F.mse_loss(z, t))
    assert build()(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])).item() == 2.5
