"""unet: logits of each pixel, at any size; shifts with the image; the number of weights of the paper's network."""

import itertools

import pytest
import torch

from runner import UserError
from runner.components.model.unet import build
from runner.core.data import Info


def test_weights_of_the_papers_network(weights):
    """Width 64, depth 4, one channel, two classes: 3x3 convolutions of figure 1, by hand, without biases; 2 numbers a normalised channel."""
    w = [64, 128, 256, 512, 1024]
    down, up = list(itertools.pairwise(w)), [(w[k] + w[k + 1], w[k]) for k in range(4)]
    pairs = [(1, 64), *down, *up, *((v, v) for v in [*w, *w[:4]])]
    convolutions = sum(9 * a * b for a, b in pairs)
    norms = sum(2 * b for _, b in pairs)
    assert weights(build(width=64, depth=4), (1, 64, 64), 2) == convolutions + norms + 64 * 2 + 2


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("size", [(8, 8), (11, 17), (4, 30)])
def test_any_size_gives_logits_for_each_pixel(norm, size):
    model = build(width=4, depth=2, norm=norm)(Info("segmentation", (3, 8, 8), 5), None)
    assert model(torch.randn(2, 3, *size)).shape == (2, *size, 5)


def test_a_shift_by_the_coarsest_pixel_shifts_the_logits():
    torch.manual_seed(0)
    model = build(width=4, depth=2, norm="batch")(Info("segmentation", (1, 64, 64), 2), None).eval()
    x = torch.zeros(1, 1, 64, 64)
    x[..., 28:34, 30:35] = torch.randn(6, 5)
    one, other = model(x), model(x.roll((4, -8), (2, 3)))
    assert torch.allclose(one.roll((4, -8), (1, 2))[:, 16:-16, 16:-16], other[:, 16:-16, 16:-16], atol=1e-5)


def test_what_cannot_be_built_is_said():
    with pytest.raises(UserError, match="too small"):
        build(depth=4)(Info("segmentation", (1, 8, 8), 2), None)
    with pytest.raises(ValueError, match="four groups"):
        build(width=6)
