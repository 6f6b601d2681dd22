"""The hyperplane against scikit-learn, the losses against loops, one step written out from the draws that it made."""

import functools

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F

from runner import UserError, contracts
from runner.components.eval.open_set_detection import build as evaluator
from runner.components.learner import pls
from runner.components.learner._contrast import classmates, hyperplane, moved, pairs


def features(n=120, seed=0):
    g = torch.Generator().manual_seed(seed)
    noisy = torch.rand(n, generator=g) < 0.25
    return torch.randn(n, 4, generator=g) * torch.tensor([1.0, 5.0, 0.1, 1.0]) + noisy[:, None] * torch.tensor([1.0, 2.0, 0.0, 0.0]), noisy


def test_hyperplane_against_scikit_learn():
    x, noisy = features()
    z = StandardScaler().fit_transform(x.double().numpy())
    theirs = LogisticRegression(C=1e12, class_weight="balanced", max_iter=1000, tol=1e-8).fit(z, noisy.numpy()).predict_proba(z)[:, 1]
    assert torch.allclose(hyperplane(x, noisy), torch.tensor(theirs).float(), atol=1e-3)
    assert torch.equal(hyperplane(x, torch.zeros_like(noisy)), torch.zeros(120))


def test_pairs_by_hand():
    g = torch.Generator().manual_seed(1)
    one, other = torch.randn(2, 5, 3, generator=g)
    views = [v / v.norm() for v in [*one, *other]]
    expected = torch.zeros(5)
    for i in range(10):
        chances = {j: torch.exp(views[i] @ views[j] / 0.2) for j in range(10) if j != i}
        expected[i % 5] += -torch.log(chances[(i + 5) % 10] / sum(chances.values())) / 2
    assert torch.allclose(pairs(one, other, 0.2), expected, atol=1e-5)


def test_classmates_by_hand():
    g = torch.Generator().manual_seed(2)
    one, other = torch.randn(2, 4, 3, generator=g)
    c = [0, 1, 0, 2]
    same = torch.tensor([[float(a == b) for b in c] for a in c])
    found = classmates(one, other, same / same.sum(1, keepdim=True), 0.5)
    for i in range(4):
        near = torch.stack([F.cosine_similarity(one[i], other[j], dim=0) / 0.5 for j in range(4)])
        chances = near.exp() / near.exp().sum()
        mine = [-chances[j].log() for j in range(4) if c[j] == c[i]]
        assert found[i].item() == pytest.approx(float(sum(mine) / len(mine)), rel=1e-4)


def test_images_are_shifted():
    x = torch.zeros(50, 2, 5, 5)
    x[:, 0, 2, 2], x[:, 1, 2, 3] = 1, 2
    found = moved(x, 1, torch.Generator().manual_seed(0))
    places = [(int(image[0].argmax()), int(image[1].argmax())) for image in found]
    assert all(b == a + 1 for a, b in places)
    assert {(a // 5 - 2, a % 5 - 2) for a, _ in places} == {(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)}
    assert torch.equal(found.sum((2, 3)), x.sum((2, 3)))


def started(duration="84it", **options):
    args = {"pretraining": "1it", "warmup": "2it", **options}
    loop = contracts.start(contracts.config("learner", "pls", args, duration=duration) | {"noise": {"name": "open_set", "rate": 0.3}})
    return loop, loop.components[0].object, loop.state


def begun(**options):
    """In the second phase, past the warm-up."""
    _, learner, state = started(**options)
    learner.start, state.phase, state.step = 1, 1, 30
    state.batch = state.data.train.fetch(torch.arange(12))
    return learner, state, state.batch


@pytest.mark.parametrize("detect", ["alternate", "linear", "loss"])
def test_detection_from_the_losses(detect):
    learner, state, _ = begun(detect=detect)
    g, train = torch.Generator().manual_seed(0), state.data.train
    n = len(train)
    x, hard = features(n)
    losses = torch.where(hard, 2.0, 0.1) + 0.1 * torch.rand(n, generator=g)
    pseudo = torch.where(torch.rand(n, generator=g) < 0.5, 0.2, 1.0) + 0.3 * torch.rand(n, generator=g)
    learner.observe = lambda state: (x, losses, pseudo)
    for turn in range(2):
        learner.epoch_start(state)
        linear = detect == "linear" or (detect == "alternate" and turn == 0)
        noisy = hyperplane(x, hard) > 0.5 if linear else hard
        assert torch.equal(state.per_sample["selected"], (~noisy).float())
        values = ((pseudo - pseudo[noisy].min()) / (pseudo[noisy].max() - pseudo[noisy].min()))[noisy].double()[:, None].numpy()
        mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0).fit(values)
        expected = torch.tensor(mixture.predict_proba(values)[:, mixture.means_.argmin()]).float()
        assert torch.allclose(state.per_sample["trust"][noisy], expected, atol=0.02)
        assert (state.per_sample["trust"][~noisy] == 1).all()
    assert not torch.equal(hyperplane(x, hard) > 0.5, hard)


def test_without_balance_a_class_may_have_no_chance_at_all():
    learner, state, batch = begun(balance=0.0)
    with torch.no_grad():
        learner.last.bias[3] = -1000.0
    learner.compute(state, batch).mean().backward()
    assert all(p.grad.isfinite().all() for p in state.model.parameters())


def test_a_step_by_hand():
    learner, state, batch = begun(alpha=0.0, balance=0.5)
    g = torch.Generator().manual_seed(3)
    state.per_sample["trust"][:12] = torch.rand(12, generator=g)
    state.per_sample["selected"][:6] = 0
    state.per_sample["trust"][6:] = 1
    found = learner.compute(state, batch).mean().detach()
    z, f = learner.outputs(state, batch.x)  # no augmentation: all views are the same
    p = z.softmax(1)
    guess = p**2 / (p**2).sum(1, keepdim=True)
    t = torch.where(torch.arange(12)[:, None] < 6, guess, F.one_hot(batch.y, 10).float())
    w = state.per_sample["trust"][:12]
    fit = (w * -(t.detach() * z.log_softmax(1)).sum(1)).sum() / w.sum()
    same = (t.argmax(1)[:, None] == t.argmax(1)).float()
    unit = f / f.norm(dim=1, keepdim=True)
    near = (unit @ unit.T / 0.2).log_softmax(1)
    contrast = -((same * near).sum(1) / same.sum(1)).mean()
    prior = sum(0.1 * torch.log(0.1 / m) for m in p.mean(0))
    assert found.item() == pytest.approx((fit + contrast + 0.5 * prior).item(), rel=1e-4)
    assert torch.allclose(state.per_sample["guess"][:12], guess, atol=1e-5)


def test_mixing_is_of_inputs_targets_and_weights(monkeypatch):
    learner, state, batch = begun()
    partner, lam = torch.randperm(12, generator=torch.Generator().manual_seed(5)), 0.7
    monkeypatch.setattr(pls, "mixing", lambda alpha, n, generator: (lam, partner))
    state.per_sample["trust"][:4], state.per_sample["selected"][:4] = 0.25, 0
    found = learner.compute(state, batch).mean().detach()
    z, one = learner.outputs(state, lam * batch.x + (1 - lam) * batch.x[partner])
    p = state.model(batch.x).softmax(1)
    guess = p**2 / (p**2).sum(1, keepdim=True)
    t = torch.cat([guess[:4], F.one_hot(batch.y[4:], 10).float()])
    w = state.per_sample["trust"][:12]
    fit = lambda t, w: (w * -(t * z.log_softmax(1)).sum(1)).sum() / w.sum()
    same = (t.argmax(1)[:, None] == t.argmax(1)).float()
    same = same / same.sum(1, keepdim=True)
    other = learner.outputs(state, batch.x)[1]
    find = lambda same: classmates(one, other, same, 0.2).mean()
    expected = lam * (fit(t, w) + find(same)) + (1 - lam) * (fit(t[partner], w[partner]) + find(same[partner]))
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_start_teaches_the_features_and_not_the_classifier():
    class Over(Exception):
        pass

    def end(loop):
        if loop.state.step == 10:
            raise Over

    loop, learner, state = started("11it", pretraining="10it", shift=1)
    before = [p.detach().clone() for p in (*state.model.parameters(), *learner.head.parameters())]
    frozen = {id(p) for p in learner.last.parameters()}
    with pytest.raises(Over):
        loop.run(end)
    for old, p in zip(before, (*state.model.parameters(), *learner.head.parameters()), strict=True):
        assert torch.equal(old, p) == (id(p) in frozen)


def test_what_the_hyperplane_divides():
    _, learner, state = started(layer="0")
    x, losses, pseudo = learner.observe(state)
    batch = state.data.train.fetch(torch.arange(len(state.data.train)))
    state.per_sample["guess"] = torch.full_like(state.per_sample["guess"], 0.1)
    maps = state.model[0](batch.x).mean((2, 3))
    assert torch.allclose(x, maps / maps.norm(dim=1, keepdim=True), atol=1e-5)
    assert torch.allclose(losses, F.cross_entropy(state.model(batch.x), batch.y, reduction="none"), atol=1e-4)
    assert torch.allclose(losses, pseudo)  # at first the guesses are the labels
    assert torch.allclose(learner.observe(state)[2], -state.model(batch.x).log_softmax(1).mean(1), atol=1e-4)
    with pytest.raises(UserError, match="no module nowhere"):
        started(layer="nowhere")


def test_resume_between_detections(monkeypatch):
    monkeypatch.setattr(contracts, "LENGTH", 84)
    args = {"pretraining": "1it", "warmup": "3it", "shift": 1}
    monkeypatch.setattr(contracts, "config", functools.partial(contracts.config, args=args))
    contracts.resume("learner", "pls")


def test_area_under_the_curve_against_scikit_learn():
    _, _, state = started()
    truth = state.data.train.side["open_set"]
    state.per_sample["outlier"] = (torch.randn(len(truth), generator=torch.Generator().manual_seed(0)) + truth).round()  # with ties
    found = evaluator().measure(state, state.data.train)["open_set_auroc"]
    assert float(found) == pytest.approx(100 * roc_auc_score(truth.numpy(), state.per_sample["outlier"].numpy()))
