"""The mixture against scikit-learn and a search, and one step of MixMatch written out from the draws that it made."""

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch.nn import functional as F

from runner import contracts
from runner.components.learner._mixture import halves, lower_component
from runner.components.learner._sharpening import sharpened


def losses_of(seed, right, wrong, gap):
    g = torch.Generator().manual_seed(seed)
    x = torch.cat([0.05 * torch.randn(right, generator=g) + 0.1, 0.15 * torch.randn(wrong, generator=g) + 0.1 + gap])
    return (x - x.min()) / (x.max() - x.min())


@pytest.mark.parametrize(("right", "wrong", "gap"), [(300, 200, 0.7), (100, 400, 0.6), (450, 50, 0.3)])
def test_mixture_against_scikit_learn(right, wrong, gap):
    x = losses_of(right, right, wrong, gap).double()
    theirs = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0).fit(x[:, None].numpy())
    expected = theirs.predict_proba(x[:, None].numpy())[:, theirs.means_.argmin()]
    assert np.abs(lower_component(x).numpy() - expected).max() < 1e-6


def test_two_means_is_the_best_cut():
    x = losses_of(3, 20, 11, 0.4)
    spread = lambda mask: sum(float(((x[m] - x[m].mean()) ** 2).sum()) for m in (mask, ~mask))
    cuts = [x > v for v in x.sort()[0][:-1]]
    assert spread(halves(x)) == pytest.approx(min(map(spread, cuts)))


def test_equal_losses_are_all_trusted():
    assert torch.equal(lower_component(torch.full((7,), 0.3)), torch.ones(7))
    assert torch.equal(lower_component(torch.tensor([0.3])), torch.ones(1))


def test_sharpening_by_hand():
    p = torch.tensor([[0.5, 0.3, 0.2]])
    assert torch.allclose(sharpened(p, 2), torch.tensor([[25.0, 9.0, 4.0]]) / 38)
    assert torch.equal(sharpened(p, 500), torch.tensor([[1.0, 0.0, 0.0]]))  # 0.5^500 is 0 in float32


def started(**options):
    loop = contracts.start(contracts.config("learner", "dividemix", {"warmup": "1it", "ramp": "4it", **options}))
    learner, state = loop.components[0].object, loop.state
    batch = state.data.train.fetch(torch.arange(12))
    state.step, state.batch = 3, batch  # two of the ramp's four steps are done
    trust = torch.rand(len(state.data.train), 2, generator=torch.Generator().manual_seed(2))
    trust[:2], trust[2:4] = 0.9, 0.1  # some of each kind for both networks
    state.per_sample["dividemix"] = trust
    return learner, state, batch


def test_a_step_by_hand(monkeypatch):
    learner, state, batch = started(unlabelled=20.0)
    draws, nets = [], (state.model, learner.peer)
    randperm = torch.randperm

    def spy(n, **options):
        draws.append(randperm(n, **options))
        return draws[-1]

    mixed = []
    monkeypatch.setattr(torch, "randperm", spy)
    for net in nets:
        net.register_forward_pre_hook(lambda module, inputs: mixed.append(inputs[0]) if module.training else None)
    found = learner.compute(state, batch).mean()
    x, y, classes = batch.x, F.one_hot(batch.y, 10).float(), 10
    p = [net(x).softmax(1) for net in nets]
    expected = 0
    for k in range(2):
        trust = state.per_sample["dividemix"][batch.i, 1 - k]
        xx, partner = torch.cat([x, x]), draws[k]
        row = next(r for r in range(24) if not torch.equal(xx[r], xx[partner[r]]))
        lam = float(((mixed[k][row] - xx[partner[row]]) @ (xx[row] - xx[partner[row]])) / (xx[row] - xx[partner[row]]).square().sum())
        assert 0.5 <= lam <= 1
        goal = torch.stack([trust[i] * y[i] + (1 - trust[i]) * p[k][i] if trust[i] > 0.5 else (p[0][i] + p[1][i]) / 2 for i in range(12)])
        goal = goal**2 / (goal**2).sum(1, keepdim=True)
        goal, certain = torch.cat([goal, goal]), torch.cat([trust, trust]) > 0.5
        goal = lam * goal + (1 - lam) * goal[partner]
        z = nets[k](lam * xx + (1 - lam) * xx[partner])
        q = z.softmax(1)
        fit = -(goal * z.log_softmax(1)).sum(1)[certain].mean()
        square = ((q - goal) ** 2)[~certain].mean()
        prior = sum((1 / classes) * torch.log((1 / classes) / m) for m in q.mean(0))
        expected = expected + fit + 20.0 * 0.5 * square + prior
    assert torch.allclose(found, expected, atol=1e-4)


def test_targets_carry_no_gradient_and_each_network_has_its_own():
    learner, state, batch = started()
    learner.compute(state, batch).mean().backward()
    assert not batch.z.requires_grad
    for net in (state.model, learner.peer):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
        assert net.training


def test_warm_up_rewards_entropy_by_the_penalty():
    learner, state, batch = started(penalty=0.5)
    state.step = 0
    expected = torch.zeros(12)
    for net in (state.model, learner.peer):
        p = net(batch.x).softmax(1)
        expected = expected + F.cross_entropy(net(batch.x), batch.y, reduction="none") + 0.5 * (p * p.log()).sum(1)
    assert torch.allclose(learner.compute(state, batch), expected, atol=1e-5)


def test_division_finds_wrong_labels_in_a_run():
    tree = contracts.config("learner", "dividemix", {"warmup": "126it"}, duration="168it") | {"noise": {"name": "symmetric", "rate": 0.4}}
    loop = contracts.start(tree)
    loop.run()
    train = loop.state.data.train
    right = train.y == train.clean
    trust = loop.state.per_sample["dividemix"]
    assert (trust[right].mean(0) > trust[~right].mean(0) + 0.5).all()
    assert torch.allclose(loop.state.per_sample["selected"], (trust > 0.5).float().mean(1))
