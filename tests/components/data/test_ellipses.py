"""ellipses: colours tell the classes apart, masks are convex ellipses where nothing covers them, and splits hang on nothing but their seed."""

import math

import torch

from runner.components.data.ellipses import build


def test_without_noise_the_colour_tells_the_class():
    data = build(train_size=50, test_size=20, val_size=10, classes=4, texture=0.0, noise=0.0)
    x, y = data.train.x.movedim(1, -1), data.train.y
    assert (data.info.task, data.info.shape, data.info.outputs) == ("segmentation", (3, 32, 32), 4)
    assert (x.shape, y.shape, len(data.test), len(data.val)) == ((50, 32, 32, 3), (50, 32, 32), 20, 10)
    assert (x[y == 0] == 0).all()
    for c in (1, 2, 3):
        colours = x[y == c] / x[y == c].norm(dim=1, keepdim=True)
        assert torch.allclose(colours, colours[:1].expand_as(colours), atol=1e-5)
        expected = torch.tensor([math.cos(2 * math.pi * (c / 3 + k / 3)) for k in range(3)])
        assert torch.allclose(colours[0], expected / expected.norm(), atol=1e-5)


def test_the_last_class_is_never_covered_and_has_the_area_of_an_ellipse():
    y = build(train_size=400, size=64, classes=2).train.y
    areas = (y == 1).float().mean((1, 2))
    low, high = math.pi * (0.6 * 0.3) ** 2, math.pi * 0.3**2  # radii are uniform between 0.18 and 0.3 of a side, centres at least 0.2 from the border
    assert areas.max() <= high
    assert areas.median() > low
    inside = (y == 1).flatten(1).any(1)
    assert inside.all()
    for mask in (y == 1)[:50]:  # along each row and column a convex mask changes twice at most
        for lines in (mask, mask.T):
            assert (torch.nn.functional.pad(lines.int(), (1, 1)).diff(dim=1).abs().sum(1) <= 2).all()


def test_the_share_of_empty_images_is_that_asked_for():
    y = build(train_size=2000, size=16, empty=0.4).train.y
    assert abs((y == 0).flatten(1).all(1).float().mean() - 0.4) < 4 * (0.24 / 2000) ** 0.5
    assert (build(train_size=100).train.y > 0).flatten(1).any(1).all()


def test_the_draw_hangs_on_split_alone_and_sizes_leave_other_splits_alone():
    torch.manual_seed(1)
    first = build(size=16)
    torch.manual_seed(2)
    again = build(size=16, train_size=7, val_size=0)
    assert torch.equal(first.test.x, again.test.x)
    assert again.val is None
    assert torch.equal(first.train.x, build(size=16).train.x)
    assert not torch.equal(first.train.y, build(size=16, split=1).train.y)
