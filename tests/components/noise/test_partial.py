import pytest
import torch

from runner.components.noise.partial import build
from runner.core.data import Data, Info, Split

N, CLASSES = 20000, 5


def sets(q, eta):
    y = torch.arange(N) % CLASSES
    split = Split(torch.zeros(N, 1), y)
    build(q, eta)(Data(Info("classification", (1,), CLASSES), split, split), torch.Generator().manual_seed(0))
    return split, split.side["candidates"], split.side["candidates"].gather(1, y[:, None])[:, 0]


@pytest.mark.parametrize(("q", "eta"), [(0.3, 0.4), (0.1, 0.0), (0.6, 0.2)])
def test_rates_within_binomial_bounds(q, eta):
    split, candidates, known = sets(q, eta)
    full = q ** (CLASSES - 1)  # sets without room for another label keep the true one
    lost = eta * (1 - full)
    assert (~known).double().mean().item() == pytest.approx(lost, abs=4 * (0.25 / N) ** 0.5)
    size = 1 + q * (CLASSES - 1)  # an exchange leaves the size as it is
    assert candidates.sum(1).double().mean().item() == pytest.approx(size, abs=4 * (CLASSES * 0.25 / N) ** 0.5)
    assert (candidates[known].sum(1) >= 1).all()
    assert torch.equal(split.clean, torch.arange(N) % CLASSES)


def test_the_label_is_a_random_candidate():
    split, candidates, known = sets(0.3, 0.3)
    assert candidates.gather(1, split.y[:, None]).all()
    two = known & (candidates.sum(1) == 2)
    assert (split.y == split.clean)[two].double().mean().item() == pytest.approx(0.5, abs=4 * (0.25 / int(two.sum())) ** 0.5)


def test_ends():
    split, candidates, _ = sets(0.0, 0.0)
    assert torch.equal(split.y, split.clean)
    assert (candidates.sum(1) == 1).all()
    assert sets(1.0, 1.0)[1].all()
    assert not sets(0.0, 1.0)[2].any()
