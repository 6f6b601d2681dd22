"""wide_resnet: numbers of weights as published; dropout sits between the two convolutions."""

import pytest
import torch

from runner.components.model._residual import PreBlock
from runner.components.model.wide_resnet import build
from runner.core.data import Info

# Zagoruyko & Komodakis 2016, tables 4 and 5: (depth, width) -> millions
PAPER = {(28, 10): 36.5, (40, 4): 8.9, (16, 8): 11.0, (22, 8): 17.2, (40, 1): 0.6, (40, 2): 2.2}


@pytest.mark.parametrize("size", list(PAPER))
def test_weights_of_the_paper(weights, size):
    assert weights(build(*size)) / 1e6 == pytest.approx(PAPER[size], abs=0.051)


def test_layers_and_shapes():
    model = build(16, 1)(Info("classification", (1, 8, 8), 5), None)
    assert sum(isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3) for m in model.modules()) == 16 - 3  # 6n + 1; the paper counts 3 more
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 5)


def test_dropout_stands_before_the_second_convolution_in_training_only():
    block, x = PreBlock(4, 4, 1, dropout=0.5), torch.rand(64, 4, 6, 6, generator=torch.Generator().manual_seed(0)) + 0.1
    torch.manual_seed(0)
    for norm in (block.norm1, block.norm2):  # the identity on positive inputs
        norm.forward = lambda v: v
    for convolution in (block.conv1, block.conv2):
        torch.nn.init.dirac_(convolution.weight)
    assert torch.allclose(block.eval()(x), 2 * x)
    ratio = (block.train()(x) - x) / x
    assert torch.allclose(ratio, ratio.round(), atol=1e-5)
    assert set(ratio.round().unique().tolist()) == {0.0, 2.0}
    assert abs((ratio > 1).float().mean() - 0.5) < 0.02


def test_impossible_depths_are_refused():
    with pytest.raises(ValueError, match="6n"):
        build(27)
