import pytest
import torch

from runner import UserError
from runner.components.noise import partial, symmetric
from runner.components.noise.catch_all import build
from runner.core.data import Data, Info, Split


def test_classes_merge_in_every_split_and_positives_are_lost_at_the_rate():
    n = 8000
    y = torch.arange(n) % 8
    data = Data(Info("classification", (1,), 8), Split(torch.zeros(n, 1), y.clone()), Split(torch.zeros(n, 1), y.clone()))
    build(3, 0.25)(data, torch.Generator().manual_seed(0))
    assert data.info.outputs == 4
    assert torch.equal(data.test.y, y.clamp_max(3))
    assert torch.equal(data.train.clean, y.clamp_max(3))
    wrong = data.train.y != data.train.clean
    assert (data.train.y[wrong] == 3).all()
    assert wrong[y < 3].double().mean().item() == pytest.approx(0.25, abs=4 * (0.19 / 3000) ** 0.5)
    with pytest.raises(UserError, match=r"^noise=catch_all: positive=9 leaves nothing"):
        build(9)(data, torch.Generator())


def test_after_label_noise_what_was_true_is_merged_too():
    y = torch.arange(80) % 8
    data = Data(Info("classification", (1,), 8), Split(torch.zeros(80, 1), y.clone()), Split(torch.zeros(8, 1), torch.arange(8)))
    symmetric.build(0.4)(data, torch.Generator().manual_seed(0))
    wrong = data.train.y.clone()
    build(3, 0.0)(data, torch.Generator())
    assert torch.equal(data.train.clean, y.clamp_max(3))
    assert torch.equal(data.train.y, wrong.clamp_max(3))


def test_what_is_known_of_each_class_cannot_be_merged():
    data = Data(Info("classification", (1,), 8), Split(torch.zeros(80, 1), torch.arange(80) % 8), Split(torch.zeros(8, 1), torch.arange(8)))
    partial.build()(data, torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match=r"let it come first: noise=\[catch_all,\.\.\.\]"):
        build(3)(data, torch.Generator())
