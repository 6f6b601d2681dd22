"""moons: without noise the very points of scikit-learn's make_moons."""

import torch
from sklearn.datasets import make_moons

from runner.components.data.moons import build


def points(x, y):
    return sorted((*(round(float(v), 4) + 0.0 for v in row), int(c)) for row, c in zip(x, y, strict=True))


def test_the_curves_are_scikit_learns():
    data = build(samples=101, noise=0.0)
    ours = points(torch.cat([data.train.x, data.test.x]), torch.cat([data.train.y, data.test.y]))
    assert torch.allclose(torch.tensor(ours), torch.tensor(points(*make_moons(101, shuffle=False))), atol=2e-4)


def test_the_noise_has_its_deviation():
    clean, noisy = build(samples=4000, noise=0.0), build(samples=4000, noise=0.3)
    assert abs((noisy.train.x - clean.train.x).std() - 0.3) < 0.01
    assert torch.equal(noisy.train.y, clean.train.y)
