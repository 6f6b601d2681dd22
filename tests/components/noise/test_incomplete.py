import pytest
import torch
from scipy import stats

from runner.components.noise.incomplete import build
from runner.core.data import Data, Info, Split


def test_values_are_lowered_by_half_normal_amounts_at_the_rate():
    n = 8000
    split = Split(torch.zeros(n, 1), torch.linspace(-1, 1, n).unsqueeze(1))
    build(0.3, 2.0, 0.0)(Data(Info("regression", (1,), 1), split, split), torch.Generator().manual_seed(0))
    change = (split.clean - split.y)[:, 0]
    low = split.side["incomplete"]
    assert low.double().mean().item() == pytest.approx(0.3, abs=4 * (0.21 / n) ** 0.5)
    assert (change[~low] == 0).all()
    assert stats.kstest(change[low].numpy(), stats.halfnorm(scale=2.0).cdf).pvalue > 0.01


def test_symmetric_noise():
    split = Split(torch.zeros(4000, 1), torch.zeros(4000, 1))
    build(0.0, 2.0, 0.5)(Data(Info("regression", (1,), 1), split, split), torch.Generator().manual_seed(0))
    assert stats.kstest(split.y[:, 0].numpy(), stats.norm(scale=0.5).cdf).pvalue > 0.01
