"""densenet: numbers of weights as published; each layer sees all before it; what stands between blocks; dropout."""

import pytest
import torch
from torch.nn import functional as F

from runner.components.model.densenet import Layer, build
from runner.core.data import Info

INFO = Info("classification", (2, 8, 8), 5)


# Huang et al. 2017, table 2 and liuzhuang13/DenseNet, README.md: (depth, growth) -> millions
@pytest.mark.parametrize(("size", "millions"), [((40, 12), 1.0), ((100, 12), 7.0), ((100, 24), 27.2)])
def test_weights_of_the_paper(weights, size, millions):
    assert weights(build(*size)) / 1e6 == pytest.approx(millions, abs=0.051)


def plain(norm, x):
    """relu(BN(x)) with running statistics."""
    shape = (1, -1, 1, 1)
    scaled = (x - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
    return (scaled * norm.weight.view(shape) + norm.bias.view(shape)).clamp_min(0)


def test_the_network_layer_by_layer():
    torch.manual_seed(0)
    model = build(depth=10, growth=3)(INFO, None).eval().requires_grad_(False)
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            for t in (m.weight, m.bias, m.running_mean, m.running_var):
                torch.nn.init.uniform_(t, 0.2, 1.0)
    layers, x = iter(model.layers), torch.randn(3, 2, 8, 8)
    known = F.conv2d(x, model.stem.weight, padding=1)
    for block in range(3):
        if block:
            between = next(layers)
            known = F.conv2d(plain(between.norm, known), between.conv.weight)
            known = (known[..., ::2, ::2] + known[..., 1::2, ::2] + known[..., ::2, 1::2] + known[..., 1::2, 1::2]) / 4
        for _ in range(2):
            layer = next(layers)
            given = F.conv2d(plain(layer.norm, known), layer.conv.weight, padding=1)
            assert given.shape[1] == 3
            known = torch.cat([known, given], 1)
    assert not list(layers)
    assert known.shape == (3, 16 + 3 * 2 * 3, 2, 2)
    features = plain(model.norm, known).mean((2, 3))
    assert torch.allclose(model(x), features @ model.head.weight.T + model.head.bias, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3])
def test_what_a_layer_gives_is_dropped_in_training_only(size):
    torch.manual_seed(0)
    layer, x = Layer(2, 4, size, 0.5), torch.randn(16, 2, 8, 8)
    torch.nn.init.constant_(layer.norm.bias, 9.0)  # nothing else is 0
    given = layer.drop.register_forward_hook(lambda m, i, out: zeros.append((out == 0).double().mean().item()))
    zeros = []
    layer(x)
    layer.eval()(x)
    given.remove()
    assert zeros == [pytest.approx(0.5, abs=0.05), 0]


def test_impossible_depths_are_refused():
    with pytest.raises(ValueError, match="3n"):
        build(41)
