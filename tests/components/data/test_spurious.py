"""spurious: group sizes and moments are those of Sagawa et al.; a rule on the spurious feature works in training only."""

import torch

from runner.components.data.spurious import build


def groups(split, core=100):
    """Counts of (class, attribute); with 100 dimensions of deviation 1 the attribute shows in the mean."""
    attribute = (split.x[:, core:].mean(1) > 0).long()
    return torch.bincount(2 * split.y + attribute, minlength=4).tolist()


def test_the_groups_have_their_sizes():
    data = build()
    assert groups(data.train) == [1350, 150, 150, 1350]  # n = 3000, p_maj = 0.9
    assert groups(data.test) == [250] * 4
    assert groups(build(agree=1.0).train) == [1500, 0, 0, 1500]


def test_the_features_have_their_moments():
    data = build()
    x, side = data.train.x, 2.0 * data.train.y - 1
    core = x[:, :100] * side[:, None]
    assert abs(core.mean() - 1) < 0.1
    assert abs(core.std() - 10) < 0.1
    spurious = x[:, 100:] * (2.0 * (x[:, 100:].mean(1) > 0) - 1)[:, None]
    assert abs(spurious.mean() - 1) < 0.01
    assert abs(spurious.std() - 1) < 0.01


def test_validation_agrees_as_training():
    data = build(val=0.2)
    counts = groups(data.val)
    assert sum(counts) == 600
    assert abs((counts[0] + counts[3]) / 600 - 0.9) < 0.05
    assert (data.info.shape, data.info.outputs) == ((200,), 2)
