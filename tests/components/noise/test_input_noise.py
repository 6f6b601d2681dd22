import pytest
import torch
from scipy import stats
from torch.utils.data import TensorDataset

from runner import UserError
from runner.components.noise.input_noise import build
from runner.core.data import Data, Info, LoadedSplit, Split

X = torch.rand(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def noisy(split, **options):
    build(**options)(Data(Info("classification", (3, 4, 4), 2), split, split), torch.Generator().manual_seed(7))
    return split


def resident(x=X):
    return Split(x.clone(), torch.zeros(len(x), dtype=torch.long))


@pytest.mark.parametrize("kind", ["gaussian", "salt_pepper"])
def test_noise_hangs_on_the_index_alone(kind):
    whole = noisy(resident(), strength=0.3, kind=kind).x
    loaded = noisy(LoadedSplit(TensorDataset(X, torch.zeros(50)), torch.zeros(50, dtype=torch.long)), strength=0.3, kind=kind)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    for size in (1, 7):
        for batch in loaded.batches(order, size, "cpu"):
            assert torch.equal(batch.x, whole[batch.i])
    assert not torch.equal(whole[0] - X[0], whole[1] - X[1])


def test_gaussian_noise_is_normal():
    change = (noisy(resident(), strength=0.3).x - X).flatten() / 0.3
    assert stats.kstest(change.numpy(), "norm").pvalue > 0.01


def test_salt_and_pepper_hit_their_share_of_the_entries():
    share = 0.4
    x = noisy(resident(), strength=share, kind="salt_pepper").x
    low, high = X.flatten(1).min(1)[0], X.flatten(1).max(1)[0]
    flat, old = x.flatten(1), X.flatten(1)
    pepper, salt = (flat == low[:, None]) & (old != low[:, None]), (flat == high[:, None]) & (old != high[:, None])
    assert torch.equal(flat[~(pepper | salt)], old[~(pepper | salt)])
    for hits in (pepper, salt):
        assert hits.double().mean().item() == pytest.approx(share / 2 * 47 / 48, abs=4 * (0.16 / hits.numel()) ** 0.5)


def test_labels_and_whole_numbers_are_left_alone():
    split = noisy(resident(), strength=0.5)
    assert split.clean is None
    with pytest.raises(UserError, match="real numbers"):
        noisy(resident(torch.ones(3, 4, dtype=torch.long)), strength=0.5)
    with pytest.raises(ValueError, match="at most 1"):
        build(strength=1.5, kind="salt_pepper")
