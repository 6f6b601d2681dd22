import pytest
import torch

from runner.components.noise.long_tail import build
from runner.core.data import Data, Info, Split


def data(classes=10, each=500):
    y = torch.arange(classes).repeat(each)
    split = Split(torch.arange(len(y)).float()[:, None], y)
    split.side["row"] = torch.arange(len(y))
    return Data(Info("classification", (1,), classes), split, Split(split.x.clone(), y.clone()))


@pytest.mark.parametrize(("factor", "sizes"), [(100.0, [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]), (10.0, [500, 387, 299, 232, 179, 139, 107, 83, 64, 50])])
def test_sizes_are_those_of_the_papers_long_tailed_cifar(factor, sizes):
    """With 500 a class, the authors' int(500 * (1 / factor)^(c / 9)); 5000 a class makes the well-known 5000, 2997, 1796, ..., 50."""
    d = data()
    build(factor)(d, torch.Generator().manual_seed(0))
    assert torch.bincount(d.train.y).tolist() == sizes
    assert torch.bincount(d.test.y).tolist() == [500] * 10


def test_the_well_known_sizes_of_cifar10_lt():
    d = data(each=5000)
    build(100.0)(d, torch.Generator().manual_seed(0))
    assert torch.bincount(d.train.y).tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def test_inputs_labels_and_side_information_stay_together():
    d = data()
    build(20.0)(d, torch.Generator().manual_seed(1))
    assert torch.equal(d.train.x[:, 0].long(), d.train.side["row"])
    assert torch.equal(d.train.y, d.train.side["row"] % 10)


def test_steps_noise_before_it_and_a_class_of_one():
    d = data(classes=4, each=100)
    d.train.relabel((d.train.y + 1) % 4)
    build(1000.0, "step")(d, torch.Generator().manual_seed(1))
    assert torch.bincount(d.train.clean).tolist() == [100, 100, 1, 1]  # by the true class
    assert torch.equal(d.train.y, (d.train.clean + 1) % 4)
