"""Sizes, labels and shares of the bags; training and test bags are of different images."""

import pytest
import torch

from runner.components.data.bags import build


@pytest.mark.parametrize("size", [20, 30])
def test_a_bag_is_positive_where_an_instance_is(size):
    data = build(bags=11, test_bags=4, size=size, low=0.1, high=0.2)
    truth, known = data.train.clean.view(11, size), data.train.y.view(11, size)
    assert torch.equal(data.train.side["bag"].view(11, size), torch.arange(11)[:, None].expand(11, size))
    assert torch.equal(known, truth.amax(1, keepdim=True).expand(11, size))
    shares = truth.double().mean(1)
    assert (shares > 0).sum() == 6
    assert all(0.1 - 0.5 / size <= s <= 0.2 + 0.5 / size for s in shares[shares > 0])
    assert data.test.clean is None
    assert 0 < data.test.y.double().mean() < 0.1  # labels of instances
    assert (data.info.task, data.info.outputs) == ("classification", 2)


def test_the_share_of_a_bag_is_known_up_to_an_error():
    data = build(bags=400, size=20, positive=[3, 8], low=0.0, high=1.0, label="share", sigma=0.05)
    truth, known = data.train.clean.view(400, 20).mean(1), data.train.y.view(400, 20)
    assert torch.equal(known, known[:, :1].expand(400, 20))
    inside = (truth > 0.2) & (truth < 0.8)  # no error is cut off
    assert (known[:, 0] - truth)[inside].std().item() == pytest.approx(0.05, abs=0.01)
    assert truth.std().item() == pytest.approx(1 / 12**0.5, abs=0.03)  # uniform
    assert data.train.y.shape == (8000, 1)
    exact = build(bags=10, label="share", sigma=0.0)
    assert torch.allclose(exact.train.y.view(10, 20)[:, 0], exact.train.clean.view(10, 20).mean(1))


def test_no_image_is_in_training_and_test_nor_twice_while_others_are_left():
    data = build(bags=40, test_bags=10)
    train, test = ({tuple(row) for row in s.x.tolist()} for s in (data.train, data.test))
    assert not train & test
    assert len(train) == 800


def test_validation_and_subsets_keep_their_bags():
    whole, data = build(bags=10), build(bags=10, val=0.2, train_size=100)
    assert (len(data.train), len(data.val)) == (100, 40)
    bag = {tuple(row): int(b) for row, b in zip(whole.train.x.tolist(), whole.train.side["bag"], strict=True)}
    for split in (data.train, data.val):
        assert [bag[tuple(row)] for row in split.x.tolist()] == split.side["bag"].tolist()
    with pytest.raises(ValueError, match="more than"):
        build(low=0.5, high=0.1)


@pytest.mark.parametrize(("positive", "how_many"), [([], "none"), ([12], "none"), (list(range(10)), "all")])
def test_instances_of_both_kinds_are_needed(positive, how_many):
    with pytest.raises(ValueError, match=f"makes {how_many} of the instances positive"):
        build(positive=positive)
