"""pyramidnet: numbers of weights as published; a block by hand; widths that grow evenly."""

import pytest
import torch
from torch.nn import functional as F

from runner.components.model.pyramidnet import Bottleneck, build
from runner.core.data import Info


# Yun et al. 2019 (1905.04899), tables 5 and 6: (depth, widening) -> millions, 100 classes
@pytest.mark.parametrize(("size", "millions"), [((200, 240), 26.8), ((110, 64), 1.7)])
def test_weights_of_the_paper(weights, size, millions):
    assert weights(build(*size), outputs=100) / 1e6 == pytest.approx(millions, abs=0.051)


def test_layers_and_widths():
    model = build(20, 40)(Info("classification", (1, 8, 8), 5), None)
    assert sum(isinstance(m, torch.nn.Conv2d) for m in model.modules()) == 20 - 1
    assert [block.path[4].out_channels for block in model.blocks] == [23, 29, 36, 43, 49, 56]  # 16 + 40 k / 6, rounded
    assert [block.stride for block in model.blocks] == [1, 1, 2, 1, 2, 1]
    shapes = []
    model.blocks.register_forward_hook(lambda m, given, out: shapes.append(out.shape))
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 5)
    assert shapes == [(2, 4 * 56, 2, 2)]


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block(stride):
    torch.manual_seed(0)
    block, x = Bottleneck(4, 3, 12, stride).eval().requires_grad_(False), torch.randn(2, 4, 6, 6)
    norms, convolutions = ([m for m in block.path if isinstance(m, kind)] for kind in (torch.nn.BatchNorm2d, torch.nn.Conv2d))
    for norm in norms:
        for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            torch.nn.init.uniform_(t, 0.2, 1.0)

    def plain(k, v):
        shape, norm = (1, -1, 1, 1), norms[k]
        return (v - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt() * norm.weight.view(shape) + norm.bias.view(shape)

    v = F.conv2d(plain(0, x), convolutions[0].weight)  # no activation before the first
    v = F.conv2d(plain(1, v).clamp_min(0), convolutions[1].weight, padding=1, stride=stride)
    v = plain(3, F.conv2d(plain(2, v).clamp_min(0), convolutions[2].weight))
    short = x if stride == 1 else (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
    v[:, :4] += short
    assert torch.allclose(block(x), v, atol=1e-5)


def test_impossible_depths_are_refused():
    with pytest.raises(ValueError, match="9n"):
        build(27)
