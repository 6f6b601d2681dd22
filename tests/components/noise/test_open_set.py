import pytest
import torch
from torch.utils.data import TensorDataset

from runner import UserError
from runner.components.noise.open_set import build
from runner.core.data import Data, Info, LoadedSplit, Split

N, CLASSES = 400, 5


def data(loaded=False):
    y = torch.arange(N) % CLASSES
    x = torch.rand(N, 2, 3, 3, generator=torch.Generator().manual_seed(0)) + y[:, None, None, None]  # the class shows in the input
    train = LoadedSplit(TensorDataset(x, y), y.clone()) if loaded else Split(x.clone(), y.clone())
    return Data(Info("classification", (2, 3, 3), CLASSES), train, Split(x.clone(), y.clone())), x, y


def build_on(d, **options):
    build(**options)(d, torch.Generator().manual_seed(3))
    return d.train


@pytest.mark.parametrize("source", ["permuted", "uniform"])
def test_inputs_are_replaced_at_the_rate_and_labels_stay(source):
    d, x, y = data()
    split = build_on(d, rate=0.25, source=source)
    wrong = split.side["open_set"]
    assert wrong.sum() == 100
    assert torch.equal(split.y, y)
    assert split.clean is None
    assert torch.equal(split.x[~wrong], x[~wrong])
    same = (split.x[wrong] == x[wrong]).flatten(1).all(1)
    assert not same.any()
    old, new = x[wrong].flatten(1), split.x[wrong].flatten(1)
    if source == "permuted":
        assert torch.equal(new.sort(1)[0], old.sort(1)[0])
    else:
        assert (new >= old.min(1, keepdim=True)[0]).all()
        assert (new <= old.max(1, keepdim=True)[0]).all()


def test_loaded_data_get_the_same_inputs_as_resident_ones():
    resident = build_on(data()[0], rate=0.5)
    loaded = build_on(data(loaded=True)[0], rate=0.5)
    rows = torch.tensor([7, 3, 399, 0])
    assert torch.equal(loaded.fetch(rows).x, resident.fetch(rows).x)


@pytest.mark.parametrize("loaded", [False, True])
def test_classes_that_leave_the_task_are_where_wrong_inputs_come_from(loaded):
    d, _, _ = data(loaded)
    split = build_on(d, rate=0.5, source="classes", held=2)
    assert d.info.outputs == 3
    assert sorted(set(d.test.y.tolist())) == [0, 1, 2]
    assert len(split) == len(split.side["open_set"]) == N * 3 // 5
    assert torch.bincount(split.y).tolist() == [80, 80, 80]
    shown = split.fetch(torch.arange(len(split))).x.flatten(1).mean(1).floor().long()
    wrong = split.side["open_set"]
    assert wrong.sum() == 120
    assert torch.equal(shown[~wrong], split.y[~wrong])
    assert set(shown[wrong].tolist()) == {3, 4}


def test_a_task_keeps_two_classes():
    with pytest.raises(UserError, match=r"^noise=open_set: held=4 leaves 1 of the 5 classes; at least 2 must stay$"):
        build_on(data()[0], source="classes", held=4)


def test_classes_leave_the_task_before_labels_are_wrong():
    made = data()[0]
    made.train.relabel(made.train.y.flip(0))
    with pytest.raises(UserError, match=r"let it come first: noise=\[open_set,\.\.\.\]"):
        build_on(made, source="classes")


def test_classes_that_leave_the_task_must_be_there():
    made = data()[0]
    made.train.resample((made.train.y < 3).nonzero()[:, 0])
    with pytest.raises(UserError, match=r"^noise=open_set: the training split has no sample of the 2 classes that leave the task"):
        build_on(made, source="classes", held=2)
