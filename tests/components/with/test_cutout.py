"""cutout: the blanked pixels are counted and drawn in the plane."""

import torch

from runner.config import registry
from runner.core.data import Batch
from runner.core.rng import Streams

build = registry.load("with", "cutout").build


class State:
    def __init__(self, seed=0):
        self.rng = Streams(seed)


def blanked(side, n=4000, height=9, width=7):
    x = torch.ones(n, 2, height, width)
    batch = Batch(x, torch.zeros(n), torch.arange(n))
    build(side).batch(State(), batch)
    assert (x == 1).all(), "the data itself was changed"
    assert torch.equal(batch.x[:, 0], batch.x[:, 1]), "all channels alike"
    return batch.x[:, 0] == 0


def test_each_is_one_rectangle_of_at_most_the_side():
    hidden = blanked(4)
    for image in hidden[:200]:
        rows, columns = image.any(1).nonzero().flatten(), image.any(0).nonzero().flatten()
        assert image.sum() == len(rows) * len(columns)
        assert len(rows) == rows[-1] - rows[0] + 1 <= 4
        assert len(columns) == columns[-1] - columns[0] + 1 <= 4
    assert (hidden.flatten(1).sum(1) == 16).any()
    assert not torch.equal(hidden[0], hidden[1])


def test_every_pixel_is_as_likely_as_the_centres_that_reach_it():
    share = blanked(3).float().mean(0)
    reach = lambda extent: torch.tensor([sum(abs(p - c) <= 1 for c in range(extent)) / extent for p in range(extent)])
    expected = reach(9)[:, None] * reach(7)[None]
    assert torch.allclose(share, expected, atol=5 * (0.25 / 4000) ** 0.5)


def test_a_square_larger_than_the_image_blanks_all_of_it():
    assert blanked(40, n=10).all()
