"""boundary: each change against scipy's morphology or by hand; rates; only training labels, and only near a border."""

import pytest
import torch
from scipy import ndimage

from runner import UserError
from runner.components.data.ellipses import build as ellipses
from runner.components.noise.boundary import build, dilate, erode, shift


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_dilation_and_erosion_are_scipys(width):
    masks = torch.rand(20, 12, 15, generator=stream()) < 0.6
    square = torch.ones(3, 3).numpy()
    for mask, big, small in zip(masks, dilate(masks, width), erode(masks, width), strict=True):
        assert torch.equal(big, torch.from_numpy(ndimage.binary_dilation(mask.numpy(), square, width)))
        assert torch.equal(small, torch.from_numpy(ndimage.binary_erosion(mask.numpy(), square, width, border_value=1)))


def test_shift_by_hand():
    mask = torch.tensor([[[1, 0, 0], [1, 1, 0], [0, 0, 0]]]).bool()
    assert shift(mask, 1, 0)[0].int().tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert shift(mask, 0, -1)[0].int().tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert shift(mask, -1, 0)[0].int().tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert shift(mask, 0, 2)[0].int().tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]


def test_only_the_ground_is_gained_and_lost_and_only_within_the_width():
    data = ellipses(train_size=100, size=24, classes=3)
    test, clean = data.test.y.clone(), data.train.y.clone()
    build(rate=1.0, width=[3, 1], kinds=["dilate", "erode", "shift"])(data, stream())
    train = data.train
    assert torch.equal(train.clean, clean)
    assert torch.equal(data.test.y, test)
    assert data.test.clean is None
    changed = train.y != clean
    assert changed.any()
    was, now = clean[changed], train.y[changed]
    assert ((was == 0) | (now == 0) | (was > 0)).all()
    for c, width in ((1, 3), (2, 1)):
        assert not ((train.y == c) & ~dilate(clean == c, width)).any()  # nothing is gained further away
        lost = (clean == c) & (train.y != c)
        assert not (lost & erode(clean == c, width)).any()  # nothing is lost further inside


def test_the_rate_is_that_of_the_masks_and_the_kinds_are_as_likely():
    data = ellipses(train_size=2000, size=16, classes=2)
    build(rate=0.3, width=[1])(data, stream(1))
    before, after = ((v == 1).float().sum((1, 2)) for v in (data.train.clean, data.train.y))
    for share in (after > before, after < before):
        assert abs(share.float().mean() - 0.15) < 4 * (0.1275 / 2000) ** 0.5


def test_widths_are_one_or_one_for_each_class():
    with pytest.raises(UserError, match="has 3 numbers"):
        build(width=[1, 2, 3])(ellipses(train_size=2, classes=3), stream())
    with pytest.raises(ValueError, match="not one of"):
        build(kinds=["blur"])
    quiet = ellipses(train_size=20, classes=3)
    build(rate=1.0, width=[0, 2])(quiet, stream())
    gone = (quiet.train.clean == 1) != (quiet.train.y == 1)
    assert not gone.any()
