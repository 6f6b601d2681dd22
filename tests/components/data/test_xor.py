"""xor: the Bayes rule has the accuracy of theory, the best linear rule that of chance."""

import math

import pytest
import torch

from runner.components.data.xor import build


def test_the_bayes_rule_has_its_error():
    data = build(samples=20000, features=6, distance=2.0, rotate=False, test=0.5)
    x, y = data.test.x, data.test.y
    rule = (x[:, 1].abs() > x[:, 0].abs()).long()
    # |N(d, 1)| > |N(0, 1)|: the sum and the difference of the two are independent N(d, 2), and must have one sign
    p = 0.5 * (1 + math.erf(2.0 / 2))
    assert abs((rule == y).float().mean() - (p * p + (1 - p) ** 2)) < 0.01
    assert x[:, 2:].mean().abs() < 0.02
    assert abs(x[:, 2:].std() - 1) < 0.02


@pytest.mark.parametrize("rotate", [True, False])
def test_no_direction_separates_the_classes(rotate):
    data = build(samples=4000, features=10, rotate=rotate)
    x, y = data.train.x.double(), 2.0 * data.train.y.double() - 1
    weights = torch.linalg.lstsq(torch.cat([x, torch.ones(len(x), 1).double()], 1), y[:, None]).solution[:-1, 0]
    test = (data.test.x.double() @ weights > 0).long()
    assert abs((test == data.test.y).float().mean() - 0.5) < 0.06


def test_turning_keeps_all_distances():
    plain, turned = build(rotate=False), build(rotate=True)
    assert torch.allclose(torch.cdist(plain.train.x, plain.train.x), torch.cdist(turned.train.x, turned.train.x), atol=5e-2)
    assert torch.allclose(plain.train.x.norm(dim=1), turned.train.x.norm(dim=1), atol=1e-4)
    assert not torch.allclose(plain.train.x, turned.train.x)
