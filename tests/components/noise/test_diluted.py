"""Counts within binomial bounds, and that copies show the image that they were made of."""

import pytest
import torch
from torch.utils.data import TensorDataset

from runner.components.noise import diluted
from runner.core.data import Data, Info, LoadedSplit, Split

C, N = 5, 2000


def noisy(alpha, bias=0.0, split=None, wrong=None):
    y = torch.arange(N) % C
    split = split or Split(torch.arange(float(N))[:, None], y)
    if wrong is not None:
        split.relabel(wrong)
    data = Data(Info("classification", (1,), C), split, split)
    diluted.build(alpha, bias)(data, torch.Generator().manual_seed(0))
    return data.train


@pytest.mark.parametrize("bias", [0.0, 0.2])
def test_shares_within_binomial_bounds(bias):
    alpha = 7
    split = noisy(alpha, bias)
    assert len(split) == 8 * N
    assert torch.equal(split.y[:N], split.clean[:N])  # the samples themselves are clean
    shift = (split.y[N:] - split.clean[N:]) % C  # 0 right, 1 the next class
    share = torch.bincount(shift, minlength=C) / (alpha * N)
    want = torch.full((C,), (1 - bias) / C)
    want[1] += bias
    assert ((share - want).abs() < 4.5 * (want * (1 - want) / (alpha * N)).sqrt()).all()
    if not bias:
        right = (split.y == split.clean).double().mean().item()
        assert right == pytest.approx((1 + alpha / C) / (1 + alpha), abs=0.01)


def test_each_copy_has_the_image_and_the_truth_of_its_sample():
    split = noisy(3)
    batch = split.fetch(torch.arange(len(split)))
    assert torch.equal(batch.x[:, 0].long() % C, split.clean)
    assert (batch.x[:, 0].long().bincount() == 4).all()


def test_other_noise_stays_and_its_truth_is_kept():
    wrong = (torch.arange(N) + 1) % C
    split = noisy(2, wrong=wrong)
    assert torch.equal(split.y[:N], wrong)
    assert torch.equal(split.clean, (torch.arange(N) % C).repeat(3))


def test_a_loaded_split_reads_the_same_samples():
    x, y = torch.arange(float(N))[:, None], torch.arange(N) % C
    loaded, resident = noisy(2, split=LoadedSplit(TensorDataset(x, y), y)), noisy(2)
    rows = torch.tensor([0, N - 1, N, N + 7, 3 * N - 1])
    assert torch.equal(loaded.fetch(rows).x, resident.fetch(rows).x)
    assert torch.equal(loaded.y, resident.y)
    assert len(loaded) == 3 * N
