import pytest
import torch
from scipy import stats

from runner.components.noise.instance import build, truncated_normal
from runner.core.data import Data, Info, Split


def data(n=6000, classes=4, shape=(2, 3), seed=0):
    g = torch.Generator().manual_seed(seed)
    split = Split(torch.randn(n, *shape, generator=g), torch.randint(classes, (n,), generator=g))
    return Data(Info("classification", shape, classes), split, split)


@pytest.mark.parametrize(("mean", "deviation"), [(0.2, 0.1), (0.5, 0.1), (0.05, 0.2)])
def test_flip_rates_follow_scipys_truncated_normal(mean, deviation):
    drawn = truncated_normal(4000, mean, deviation, torch.Generator().manual_seed(0))
    wanted = stats.truncnorm((0 - mean) / deviation, (1 - mean) / deviation, loc=mean, scale=deviation)
    assert stats.kstest(drawn.numpy(), wanted.cdf).pvalue > 0.01


def test_overall_rate_is_the_mean_of_the_flip_rates():
    d = data()
    build(rate=0.3)(d, torch.Generator().manual_seed(1))
    mean = stats.truncnorm(-3, 7, loc=0.3, scale=0.1).mean()
    assert (d.train.y != d.train.clean).double().mean().item() == pytest.approx(mean, abs=4 * (0.21 / 6000) ** 0.5)


def test_the_wrong_label_depends_on_the_input():
    """Samples with one input and one label: the wrong label they get follows one softmax, which another input does not share."""
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(4000, 1)
    split = Split(x, torch.zeros(8000, dtype=torch.long))
    generator = torch.Generator().manual_seed(5)
    build(rate=0.5, spread=0.0)(Data(Info("classification", (2,), 3), split, split), generator)
    projection = torch.randn(2, 3, generator=torch.Generator().manual_seed(5))  # nothing else is drawn before class 0's
    for k in range(2):
        y = split.y[k::2]
        expected = projection[k, 1:].softmax(-1)[0].item()
        share = (y == 1).double().sum() / (y != 0).double().sum()
        assert share.item() == pytest.approx(expected, abs=0.05)
    assert abs(projection[0, 1:].softmax(-1)[0] - projection[1, 1:].softmax(-1)[0]) > 0.15


def test_same_generator_same_labels_whatever_the_shape():
    flat, image = data(300, shape=(6,)), data(300, shape=(1, 2, 3))
    for d in (flat, image):
        build(rate=0.4)(d, torch.Generator().manual_seed(2))
    assert torch.equal(flat.train.y, image.train.y)
