import pytest
import torch

from runner.components.noise.annotators import build, matrix
from runner.core.data import Data, Info, Split


def test_annotators_err_at_the_rate_independently_of_each_other():
    n, rate = 20000, 0.3
    split = Split(torch.zeros(n, 1), torch.arange(n) % 4)
    build(3, rate)(Data(Info("classification", (1,), 4), split, split), torch.Generator().manual_seed(0))
    wrong = (split.side["annotations"] != split.clean.unsqueeze(1)).double()
    bound = 4.5 * (0.25 / n) ** 0.5
    assert ((wrong.mean(0) - rate).abs() < bound).all()
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (wrong[:, a] * wrong[:, b]).mean().item() == pytest.approx(rate**2, abs=bound)
    assert torch.equal(split.y, split.side["annotations"][:, 0])


@pytest.mark.parametrize("kind", ["symmetric", "pair", "random"])
def test_matrices(kind):
    t = matrix(kind, 5, 0.4, torch.Generator().manual_seed(0))
    assert torch.allclose(t.sum(1), torch.ones(5).double())
    assert torch.allclose(t.diagonal(), torch.full((5,), 0.6).double())
    assert {"symmetric": torch.allclose(t[0, 1:], torch.tensor(0.1).double()), "pair": t[4, 0] == 0.4, "random": t[0, 1] != t[0, 2]}[kind]
