import math

import pytest
import torch
from torch.nn import functional as F

from runner.components.loss.ldr import build

Z = torch.tensor([[1.0, -0.5, 0.25, 2.0], [-3.0, 0.5, 0.0, 1.0]])
Y = torch.tensor([0, 3])


@pytest.mark.parametrize(
    ("margin", "lam", "want"),
    [(0.1, 10.0, [-0.019537881, -0.642338991]), (2.0, 1.0, [1.800846815, 0.952647746]), (0.1, 0.1, [0.648019254, -0.135519147])],
)
def test_numbers_of_the_authors_code(margin, lam, want):
    """LDRLoss_V1 of Optimization-AI/ICML2023_LDR, loss.py, run on these logits."""
    assert build(lam, margin)(Z, Y).tolist() == pytest.approx(want, abs=2e-6)


@pytest.mark.parametrize(("margin", "lam", "want"), [(0.1, 10.0, 0.023772418), (2.0, 1.0, 1.693486094)])
def test_numbers_of_the_authors_code_for_a_soft_label(margin, lam, want):
    assert build(lam, margin)(Z[:1], torch.tensor([[0.7, 0.1, 0.1, 0.1]])).item() == pytest.approx(want, abs=2e-6)


def test_limits():
    """Zhu et al., section 3: cross entropy at lambda = 1, the multi-class hinge loss at 0, the mean margin at infinity."""
    plain = lambda lam, margin: build(lam, margin, normalise=False)(Z.double(), Y)
    assert torch.allclose(plain(1.0, 0.0), F.cross_entropy(Z.double(), Y, reduction="none") - math.log(4))
    margins = 0.3 * (1 - F.one_hot(Y, 4)) + Z - Z.gather(1, Y[:, None])
    assert torch.allclose(plain(1e-4, 0.3), margins.amax(-1).double(), atol=1e-3)
    assert torch.allclose(plain(1e4, 0.3), margins.mean(-1).double(), atol=1e-3)


def test_is_the_worst_weighting_of_the_margins():
    """The dual form: max over p of <p, margins> - lambda KL(p || uniform); every other p gives less."""
    value = build(0.7, 0.5, normalise=False)(Z, Y)
    margins = 0.5 * (1 - F.one_hot(Y, 4)) + Z - Z.gather(1, Y[:, None])
    dual = lambda p: (p * margins).sum(-1) - 0.7 * (p * (4 * p).log()).sum(-1)
    assert torch.allclose(dual((margins / 0.7).softmax(-1)), value, atol=1e-5)
    for k in range(20):
        other = torch.randn(2, 4, generator=torch.Generator().manual_seed(k)).softmax(-1)
        assert (dual(other) < value).all()
