"""cnn: sizes by hand, and what a shift of the image does to pooled features."""

import pytest
import torch

from runner import UserError
from runner.components.model.cnn import build
from runner.core.data import Info


def test_weights_and_shapes(weights):
    # 3x3 convolutions 1 -> 4 -> 8, then 8 channels of 2x2 -> 10
    assert weights(build(width=4), (1, 8, 8)) == (9 * 4 + 4) + (9 * 4 * 8 + 8) + (8 * 4 * 10 + 10)
    assert weights(build(width=4, batch_norm=True), (1, 8, 8)) == (9 * 4 + 8) + (9 * 4 * 8 + 16) + (8 * 4 * 10 + 10)
    assert build(depth=3)(Info("classification", (3, 28, 30), 7), None)(torch.zeros(2, 3, 28, 30)).shape == (2, 7)


def test_a_shift_by_the_pooled_size_shifts_the_features():
    model = build(width=4)(Info("classification", (1, 24, 24), 3), None)[:-2]
    x = torch.zeros(1, 1, 24, 24)
    x[..., 8:14, 8:14] = torch.rand(6, 6, generator=torch.Generator().manual_seed(0))
    moved = torch.roll(x, 4, -1)
    assert torch.allclose(torch.roll(model(x), 1, -1)[..., 1:-1, 2:-1], model(moved)[..., 1:-1, 2:-1], atol=1e-6)


def test_too_many_halvings_are_said():
    with pytest.raises(UserError, match="allow depth=3"):
        build(depth=4)(Info("classification", (1, 8, 8), 10), None)
