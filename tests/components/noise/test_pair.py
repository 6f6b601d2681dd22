import torch

from runner.components.noise.pair import build
from runner.core.data import Data, Info, Split


def test_each_class_becomes_the_next_at_the_rate():
    classes, each, rate = 5, 4000, 0.45
    y = torch.arange(classes).repeat(each)
    split = Split(torch.zeros(len(y), 1), y)
    data = Data(Info("classification", (1,), classes), split, split)
    build(rate)(data, torch.Generator().manual_seed(0))
    step = (data.train.y - data.train.clean) % classes
    assert set(step.tolist()) == {0, 1}
    share = torch.stack([step[data.train.clean == c].double().mean() for c in range(classes)])
    assert (share - rate).abs().max() < 4 * (rate * (1 - rate) / each) ** 0.5


def test_rate_one_moves_every_label():
    split = Split(torch.zeros(6, 1), torch.tensor([0, 1, 2, 0, 1, 2]))
    build(1.0)(Data(Info("classification", (1,), 3), split, split), torch.Generator().manual_seed(0))
    assert split.y.tolist() == [1, 2, 0, 1, 2, 0]
