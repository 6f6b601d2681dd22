"""The weak model against scikit-learn, hardening against its definitions, and what the student is given on a small run."""

import importlib
from types import SimpleNamespace

import hub_weights
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from runner import UserError, contracts
from runner.core.data import Info

weak = importlib.import_module("runner.components.with.weak_supervision")


def started(**options):
    loop = contracts.start(contracts.config("with", "weak_supervision", options))
    return loop, next(c.object for c in loop.components if c.name == "with/weak_supervision")


def test_the_weak_model_is_a_logistic_regression():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 3, generator=g), torch.randint(3, (60,), generator=g)
    weight, bias = weak.regression(x, y, 3, decay=0.01)
    theirs = LogisticRegression(C=1 / (60 * 0.01), tol=1e-8, max_iter=1000).fit(x.numpy(), y.numpy())
    mine = (x @ weight + bias).softmax(1)
    assert torch.allclose(mine, torch.tensor(theirs.predict_proba(x.numpy()), dtype=torch.float32), atol=1e-3)


def test_hardening_of_two_classes_is_the_authors_threshold():
    """Class 0 where p_0 is at least its quantile at the mean of the weak labels of class 1."""
    g = torch.Generator().manual_seed(1)
    p0 = torch.rand(41, generator=g) * 0.5  # the student would always say class 1
    balance = torch.tensor([0.7, 0.3])
    own = weak.hardened(torch.stack([p0, 1 - p0], 1), balance)
    assert torch.equal(own == 0, p0 >= p0.quantile(0.3))


def test_hardening_keeps_confident_classes_and_balance():
    p = torch.full((30, 3), 0.01)
    p[torch.arange(30), torch.arange(30) % 3] = 0.98
    assert torch.equal(weak.hardened(p, torch.full((3,), 1 / 3)), torch.arange(30) % 3)
    p = torch.softmax(torch.randn(300, 3, generator=torch.Generator().manual_seed(2)) + torch.tensor([2.0, 0.0, 0.0]), 1)
    balanced = torch.bincount(weak.hardened(p, torch.full((3,), 1 / 3)), minlength=3)
    plain = torch.bincount(p.argmax(1), minlength=3)
    assert plain[0] > 200
    assert (balanced - 100).abs().max() < 0.4 * (plain - 100).abs().max()


def test_losses_by_hand():
    loop, hook = started(confidence=0.6, rise="4it")
    state = loop.state
    batch = hook.batch(state, state.data.train.fetch(torch.arange(30)))
    batch.z = state.model(batch.x)
    own = torch.eye(10)[weak.hardened(batch.z.detach().softmax(1), batch.t.mean(0))]
    for step, share in ((0, 0.0), (2, 0.3), (9, 0.6)):
        state.step = step
        goal = (1 - share) * batch.t + share * own
        expected = -(goal * batch.z.log_softmax(1)).sum(1)
        assert torch.allclose(hook.losses(state, state.loss(batch.z, batch.t), batch), expected, atol=1e-5)


def test_the_student_never_sees_the_supervisors_samples_nor_the_labels():
    loop, hook = started(labels=200)
    assert (~hook.free).sum() == 200
    train = loop.state.data.train
    pooled = train.x.view(-1, 4, 2, 4, 2).mean((2, 4)).flatten(1)
    fitted = (pooled @ hook.weight + hook.bias).softmax(1)
    assert (fitted.argmax(1) == train.y)[~hook.free].float().mean() > (fitted.argmax(1) == train.y)[hook.free].float().mean() > 0.5
    seen = set()

    def look(loop):
        batch = loop.state.batch
        assert hook.free[batch.i].all()
        assert torch.allclose(batch.t, fitted[batch.i], atol=1e-5)
        seen.update(batch.i.tolist())

    loop.run(look)
    assert len(seen) == len(train) - 200


def test_weights_that_samples_have_already_stay():
    loop, hook = started(labels=600)
    batch = loop.state.data.train.fetch(torch.arange(30))
    batch.w = torch.arange(30.0, device=batch.x.device)
    assert 0 < hook.free[:30].sum() < 30
    assert torch.equal(hook.batch(loop.state, batch).w, torch.arange(30.0, device=batch.x.device)[hook.free[:30]])


def test_what_is_evaluated_and_the_truth():
    loop, hook = started(evaluate="supervisor")
    state = loop.state
    before, x = state.predict, state.data.test.x
    hook.eval_enter(state)
    assert torch.equal(state.predict(x), hook.supervisor(x))
    hook.eval_exit(state)
    assert state.predict is before
    loop, hook = started(supervision="truth")
    assert torch.equal(loop.state.per_sample["weak_supervision"].argmax(1), loop.state.data.train.y)


def test_more_labels_than_samples_are_refused():
    with pytest.raises(UserError, match="leaves none"):
        started(labels=5000)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("RUNNER_OFFLINE", "1")
    return tmp_path


class Ten(torch.nn.Module):
    """A network of ten classes that torchvision has not."""

    def forward(self, x):
        assert x.shape[1] == 3
        return x.mean(1).flatten(1)[:, 20:30]


def test_a_trained_network_is_the_supervisor(home, monkeypatch):
    monkeypatch.setattr(weak, "trained", lambda arch: Ten())
    loop, hook = started(labels=0, network="alexnet")
    state, train = loop.state, loop.state.data.train
    assert hook.free.all()
    assert torch.allclose(state.per_sample["weak_supervision"], Ten()(train.x.expand(-1, 3, -1, -1)).softmax(1), atol=1e-6)
    loop, hook = started(labels=0, network="alexnet", evaluate="supervisor")
    found = loop.run()["test/acc_last"]
    test = loop.state.data.test
    right = Ten()(test.x.expand(-1, 3, -1, -1)).argmax(1) == test.y
    assert found == pytest.approx(100 * right.float().mean().item(), abs=1e-3)


def small(arch, shape, outputs):
    """What a run would start with, for images of any shape."""
    state = SimpleNamespace(info=Info("classification", shape, outputs), device=torch.device("cpu"))
    return weak.build(labels=0, network=arch).pretrained(state)


def test_its_weights_are_torchvisions(home):
    from torchvision import models

    network = models.squeezenet1_1()
    network.load_state_dict(hub_weights.write(home, "squeezenet1_1"))
    before = torch.get_rng_state()
    x = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(small("squeezenet1_1", (3, 40, 40), 1000)(x), network.eval()(x), atol=1e-6)
    assert torch.equal(before, torch.get_rng_state())


def test_what_a_network_cannot_do_is_said(home):
    with pytest.raises(ValueError, match="labels=0 leaves the weak model without a label"):
        weak.build(labels=0)
    with pytest.raises(ValueError, match="torchvision has no classifier 'alexnett'"):
        weak.build(network="alexnett")
    with pytest.raises(UserError, match=r"looked in .*squeezenet1_1-.*RUNNER_OFFLINE"):
        small("squeezenet1_1", (3, 40, 40), 1000)
    hub_weights.write(home, "squeezenet1_1")
    with pytest.raises(UserError, match=r"network=squeezenet1_1 does not take inputs of shape \(1, 8, 8\)"):
        started(labels=0, network="squeezenet1_1")
    with pytest.raises(UserError, match="network=squeezenet1_1 tells 1000 classes apart; the data has 10"):
        small("squeezenet1_1", (3, 40, 40), 10)
