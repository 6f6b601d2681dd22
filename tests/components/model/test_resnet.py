"""resnet: numbers of weights as published; at their start the residual blocks do what the paper says."""

import pytest
import torch
from torch.nn import functional as F

from runner.components.model._residual import Block, PadShortcut, PreBlock
from runner.components.model.resnet import build
from runner.core.data import Info

# He et al. 2016, table 6, in millions
PAPER = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}


@pytest.mark.parametrize("depth", list(PAPER))
def test_weights_of_the_paper(weights, depth):
    assert weights(build(depth)) / 1e6 == pytest.approx(PAPER[depth], abs=0.051 if depth == 110 else 0.0051)


def test_weights_of_the_large_form(weights):
    # da2so/DA2Lite, model_zoo/README.md: CIFAR-10 and CIFAR-100, in millions
    published = {(18, 10): 11.17, (34, 10): 21.28, (18, 100): 11.22, (34, 100): 21.33}
    for (depth, classes), millions in published.items():
        assert weights(build(depth), outputs=classes) / 1e6 == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize("preact", [False, True])
def test_layers_are_counted(preact):
    for depth in (8, 20, 18):
        model = build(depth, preact)(Info("classification", (3, 8, 8), 10), None)
        kernels = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)]
        assert len(kernels) + 1 == depth  # and the linear layer
        assert model(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def test_it_is_torchvisions_network_but_for_the_stem(weights):
    """ResNet-18: with the same weights, all that follows the stem gives the same outputs."""
    from torchvision.models import resnet18

    theirs, ours = resnet18(num_classes=10), build(18)(Info("classification", (3, 8, 8), 10), None)
    blocks = [b for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4) for b in layer]
    for mine, block in zip(ours.blocks, blocks, strict=True):
        pairs = [(mine.conv1, block.conv1), (mine.norm1, block.bn1), (mine.conv2, block.conv2), (mine.norm2, block.bn2)]
        pairs += list(zip(mine.shortcut, block.downsample, strict=True)) if block.downsample is not None else []
        for a, b in pairs:
            b.load_state_dict(a.state_dict())
    x = torch.randn(4, 64, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours.blocks(x), theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x)))), atol=1e-5)


def test_option_a_keeps_every_second_pixel_and_adds_zeros():
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    out = PadShortcut(2, 2)(x)
    assert out.shape == (2, 5, 2, 2)
    assert torch.equal(out[:, :3], F.interpolate(x, scale_factor=0.5, mode="nearest"))
    assert not out[:, 3:].any()


def test_without_their_last_convolution_blocks_are_shortcuts():
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    plain, pre = Block(4, 4, 1, False), PreBlock(4, 4, 1)
    for block in (plain, pre):
        torch.nn.init.zeros_(block.conv2.weight)
    assert torch.equal(plain(x), x.relu())  # the ReLU after the addition
    assert torch.equal(pre(x), x)  # a clean path (He et al. 2016b)


def test_convolutions_start_as_he_et_al():
    model = build(18)(Info("classification", (3, 32, 32), 10), None)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 5000:
            assert module.weight.std().item() == pytest.approx((2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5, rel=0.05)
    assert not model.head.bias.any()


def test_impossible_depths_are_refused():
    with pytest.raises(ValueError, match="6n"):
        build(21)


def test_projections_of_the_small_form(weights):
    """facebookresearch/open_lth, models/cifar_resnet.py: two 1x1 convolutions with normalisation more than option A."""
    assert weights(build(20, project=True)) - weights(build(20)) == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    model = build(20, project=True, width=8)(Info("classification", (3, 8, 8), 10), None)
    assert [b.conv1.out_channels for b in model.blocks] == [8, 8, 8, 16, 16, 16, 32, 32, 32]
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def test_width_is_that_of_the_first_stage(weights):
    assert weights(build(20, width=16)) == weights(build(20))
    assert weights(build(18, width=64)) == weights(build(18))
