import torch
from sklearn.datasets import load_digits

from runner.components.data.digits import build


def test_all_samples_once_a_fifth_of_each_class_held_out():
    data = build()
    x, y = load_digits(return_X_y=True)
    assert (data.info.task, data.info.shape, data.info.outputs) == ("classification", (64,), 10)
    rows = torch.cat([data.train.x, data.test.x]) * 16
    assert sorted(map(tuple, rows.int().tolist())) == sorted(map(tuple, x.astype(int).tolist()))
    everyone = torch.bincount(torch.tensor(y))
    assert (torch.bincount(data.test.y) - 0.2 * everyone).abs().max() <= 0.5
    assert torch.equal(torch.bincount(data.test.y) + torch.bincount(data.train.y), everyone)


def test_splits_differ_and_are_the_same_every_time():
    assert torch.equal(build().train.x, build().train.x)
    assert not torch.equal(build().test.x, build(split=1).test.x)


def test_images_are_the_same_pixels():
    flat, square = build(), build(flat=False)
    assert square.info.shape == (1, 8, 8)
    assert torch.equal(square.train.x.flatten(1), flat.train.x)
