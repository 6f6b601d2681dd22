"""region_cnn: pooling against torch's adaptive pooling of crops, and what a region's logits hang on."""

import pytest
import torch
from torch.nn import functional as F

from runner import UserError
from runner.components.model.region_cnn import STRIDE, build
from runner.core.data import Info

REGIONS = ((0.0, 0.0, 24.0, 24.0), (4.0, 8.0, 28.0, 32.0), (0.0, 0.0, 32.0, 32.0), (3.0, 5.0, 17.0, 22.0))


def info(**changes):
    return Info(**{"task": "detection", "shape": (3, 32, 32), "outputs": 5, "regions": REGIONS, **changes})


def test_regions_on_the_grid_are_pooled_as_their_crops():
    net = build(width=4, bins=2)(info(), None)
    z = torch.randn(6, 8, 8, generator=torch.Generator().manual_seed(0))
    pooled = (z.flatten(1) @ net.pool.T).view(6, len(REGIONS), 2, 2)
    for k, box in enumerate(REGIONS[:3]):
        x0, y0, x1, y1 = (int(v) // STRIDE for v in box)
        assert torch.allclose(pooled[:, k], F.adaptive_avg_pool2d(z[:, y0:y1, x0:x1], 2), atol=1e-6)


def test_regions_off_the_grid_are_pooled_by_area():
    """A linear function of the place, integrated cell by cell: the mean over a bin is that of a much finer grid."""
    net = build(width=4, bins=3)(info(), None)
    z = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    fine = z.repeat_interleave(16 * STRIDE, 0).repeat_interleave(16 * STRIDE, 1)  # 16 points a pixel
    x0, y0, x1, y1 = REGIONS[3]
    for i in range(3):
        for j in range(3):
            rows = slice(round(16 * (y0 + (y1 - y0) * i / 3)), round(16 * (y0 + (y1 - y0) * (i + 1) / 3)))
            columns = slice(round(16 * (x0 + (x1 - x0) * j / 3)), round(16 * (x0 + (x1 - x0) * (j + 1) / 3)))
            pooled = (net.pool @ z.flatten()).view(len(REGIONS), 3, 3)[3, i, j]
            assert pooled == pytest.approx(float(fine[rows, columns].mean()), abs=0.02)
    assert torch.allclose(net.pool.sum(1), torch.ones(len(net.pool)))


def test_logits_have_a_row_for_each_region_and_see_beyond_it():
    torch.manual_seed(0)
    net = build(width=4)(info(), None)
    x = torch.randn(2, 3, 32, 32)
    z = net(x)
    assert z.shape == (2, len(REGIONS), 5)
    near, far = x.clone(), x.clone()
    near[:, :, :, 24:26] += 1  # beside the first region, within reach of the convolutions
    far[:, :, 30:, 30:] += 1
    assert not torch.allclose(net(near)[:, 0], z[:, 0], atol=1e-4)
    assert not torch.allclose(net(far)[:, 2], z[:, 2], atol=1e-6)


def test_what_cannot_be():
    with pytest.raises(ValueError, match="width=6"):
        build(width=6)
    with pytest.raises(UserError, match="regions that data name"):
        build()(info(regions=()), None)
    with pytest.raises(UserError, match="multiples of 4; these are 30x32"):
        build()(info(shape=(3, 30, 32)), None)
