"""blobs: class means and deviations are those asked for; nothing depends on torch's global stream."""

import torch

from runner.components.data.blobs import build


def test_clusters_have_the_spread_and_lie_in_the_box():
    data = build(samples=6000, classes=4, features=3, spread=0.5, box=6.0, val=0.2)
    x, y = data.train.x, data.train.y
    centres = torch.stack([x[y == c].mean(0) for c in range(4)])
    assert centres.abs().max() < 6.1
    assert torch.allclose(torch.stack([x[y == c].std(0) for c in range(4)]), torch.full((4, 3), 0.5), rtol=0.08)
    nearest = torch.cdist(data.test.x, centres).argmin(1)
    assert (nearest == data.test.y).float().mean() > 0.99
    assert (data.info.shape, data.info.outputs, len(data.val)) == ((3,), 4, 960)


def test_the_draw_hangs_on_split_alone():
    torch.manual_seed(1)
    first = build()
    torch.manual_seed(2)
    assert torch.equal(first.train.x, build().train.x)
    assert not torch.equal(first.train.x, build(split=1).train.x)
