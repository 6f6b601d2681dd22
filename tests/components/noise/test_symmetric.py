"""Rates within binomial bounds, drawn on a large synthetic split; the transition matrix itself exactly."""

import pytest
import torch

from runner.components.noise import symmetric
from runner.components.noise._transition import draw
from runner.core.data import Data, Info, Split


def noisy(rate, inclusive=False, classes=5, each=4000, seed=0):
    y = torch.arange(classes).repeat(each)
    split = Split(torch.zeros(len(y), 1), y)
    data = Data(Info("classification", (1,), classes), split, split)
    symmetric.build(rate, inclusive)(data, torch.Generator().manual_seed(seed))
    return data.train


def counts(split, classes=5):
    return torch.zeros(classes, classes).index_put_((split.clean, split.y), torch.ones(len(split)), accumulate=True)


@pytest.mark.parametrize(("rate", "inclusive"), [(0.4, False), (0.4, True), (0.8, False)])
def test_rates_within_binomial_bounds(rate, inclusive):
    n = 4000
    share = counts(noisy(rate, inclusive)) / n
    off = rate / 5 if inclusive else rate / 4
    want = torch.full((5, 5), off).fill_diagonal_(1 - rate + off if inclusive else 1 - rate)
    assert ((share - want).abs() < 4.5 * (want * (1 - want) / n).sqrt()).all()


@pytest.mark.parametrize("inclusive", [False, True])
def test_the_matrix_exactly(monkeypatch, inclusive):
    seen = []
    monkeypatch.setattr(symmetric, "draw", lambda y, matrix, generator: seen.append(matrix) or y)
    noisy(0.4, inclusive)
    want = torch.full((5, 5), 0.08 if inclusive else 0.1).fill_diagonal_(0.68 if inclusive else 0.6)
    assert torch.allclose(seen[0], want, atol=1e-7)
    assert torch.allclose(seen[0].sum(1), torch.ones(5))


def test_ends_and_the_first_labels_are_kept():
    assert torch.equal(noisy(0.0).y, noisy(0.0).clean)
    assert (noisy(1.0).y != noisy(1.0).clean).all()
    assert torch.equal(noisy(0.5).clean, torch.arange(5).repeat(4000))
    assert torch.equal(noisy(0.5).y, noisy(0.5).y)
    assert not torch.equal(noisy(0.5).y, noisy(0.5, seed=1).y)


def test_a_row_without_mass_is_never_drawn():
    matrix = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]])
    y = draw(torch.tensor([0, 1, 2]).repeat(500), matrix, torch.Generator().manual_seed(0)).view(500, 3)
    assert set(y[:, 0].tolist()) == {1}
    assert set(y[:, 1].tolist()) == {0, 2}
    assert set(y[:, 2].tolist()) == {2}
