"""The loss and the descent of u by hand, centroids over the trusted samples, and u on a run with known wrong labels."""

import importlib

import pytest
import torch
from small import loop, part
from torch import nn

from runner import contracts
from runner.core.data import Batch
from runner.core.errors import UserError

build = importlib.import_module("runner.components.with.ncod").build
RUNG = {"batch": "adversarial", "losses": "correct"}


def made(n=40, model=None, **options):
    training = loop(part(build(**options), "with/ncod", rung=RUNG), n=n, model=model, duration="2ep")
    return training.state, training.components[-1].object


def batch_of(state, p, rows, t=None):
    i = torch.tensor(rows)
    batch = Batch(torch.zeros(len(i), 5), state.data.train.y[i], i, t, z=torch.tensor(p).log() + 2.0)
    state.batch = batch
    return batch


def test_a_learner_without_features_of_the_batch_is_refused():
    loop = contracts.start({**contracts.config("with", "ncod"), "learner": "nmtune"})  # its tuning passes batches in evaluation mode
    with pytest.raises(UserError, match="with/ncod has no features of this batch"):
        loop.run()


def test_loss_and_u_by_hand():
    state, hook = made(rate=0.5)
    y = state.data.train.y
    hook.means = torch.eye(8)[:3]
    first, second = 0, int((y != y[0]).nonzero()[0])
    u = state.per_sample["ncod/u"]
    u[first], u[second] = 0.2, 0.4
    p = torch.full((2, 3), 0.15)
    p[0, y[first]], p[1, y[first]] = 0.7, 0.7  # the first is predicted as its label, the second is not
    batch = batch_of(state, p.tolist(), [first, second])
    hook.features = torch.zeros(2, 8)
    hook.features[0, y[first]], hook.features[0, 7] = 3.0, 4.0  # cosine 0.6 to its class
    hook.features[1, y[second]] = -2.0  # -1: cut off
    plain = state.loss(batch.z, batch.t)
    found = hook.losses(state, plain + 10, batch)
    assert torch.allclose(found - 10, torch.tensor([-0.6 * torch.log(torch.tensor(0.9)), 0.0]), atol=1e-5)
    # slopes of ((1 + u - 1)^2 + (0 + 0)^2) / 2 and of ((0 + u - 1)^2 + 1) / 2: u and u - 1
    assert state.per_sample["ncod/u"][[first, second]].tolist() == pytest.approx([0.2 - 0.5 * 0.2, 0.4 + 0.5 * 0.6])
    before = state.per_sample["ncod/u"].clone()
    state.replay, hook.features = True, torch.ones(2, 8)
    hook.losses(state, plain, batch)
    assert torch.equal(before, state.per_sample["ncod/u"])


def test_it_needs_features_of_the_batch():
    state, hook = made()
    batch = batch_of(state, [[0.2, 0.3, 0.5]], [0])
    for features in (None, torch.ones(4, 8)):
        hook.features = features
        with pytest.raises(UserError, match="no features of this batch"):
            hook.losses(state, torch.zeros(1), batch)


def test_gradient_vanishes_where_u_explains_the_label():
    """d/dz of -log(p + u) is p / (p + u) times that of cross entropy."""
    state, hook = made(centroids=False)
    z = torch.tensor([[0.1, 0.4, -0.3]], requires_grad=True)
    state.per_sample["ncod/u"][0] = 0.3
    batch = batch_of(state, [[1.0, 1.0, 1.0]], [0])
    hook.features = torch.ones(1, 8)
    batch.z = z
    (found,) = torch.autograd.grad(hook.losses(state, state.loss(z, batch.t), batch).sum(), z)
    (plain,) = torch.autograd.grad(state.loss(z, batch.t).sum(), z)
    p = z.detach().softmax(-1)[0, batch.y[0]]
    assert torch.allclose(found, plain * p / (p + 0.3), atol=1e-6)


def test_centroids_are_means_over_the_trusted_samples():
    state, hook = made(n=200, trusted=0.5)
    table, u, y = state.per_sample["ncod/features"], state.per_sample["ncod/u"], state.data.train.y
    table.copy_(torch.randn(table.shape, generator=torch.Generator().manual_seed(0)))
    u.copy_(torch.rand(len(u), generator=torch.Generator().manual_seed(1)))
    for step, share in ((0, 1.0), (25, 0.75), (50, 0.5)):
        state.step = step
        hook.epoch_start(state)
        for c in range(3):
            rows = sorted((y == c).nonzero()[:, 0].tolist(), key=lambda k: float(u[k]))
            rows = rows[: int(share * len(rows))]
            assert torch.allclose(hook.means[c], table[rows].mean(0), atol=1e-6)


def test_features_are_what_the_classifier_was_given_in_training():
    training = loop(part(build(), "with/ncod", rung=RUNG), duration="1ep")
    seen = {}

    def look(made):
        batch = made.state.batch
        for row, feature in zip(batch.i.tolist(), made.state.per_sample["ncod/features"][batch.i], strict=True):
            seen[row] = feature.clone()

    start = training.state.weights()
    training.run(lambda made: look(made) if made.state.step == 1 else None)
    x = training.state.data.train.x[list(seen)]
    expected = torch.tanh(x @ start["0.weight"].T + start["0.bias"])
    assert torch.allclose(torch.stack(list(seen.values())), expected, atol=1e-6)
    assert training.components[-1].object.features is None


@pytest.mark.parametrize("looks", [1, 2])  # the second time an optimizer looks at a batch
def test_passes_of_others_are_none_of_its_own(looks):
    def trained(*others, steps=2):
        training = loop(part(build(), "with/ncod", rung=RUNG), *others, n=40, duration=f"{steps}it")
        training.run()
        return training.state.per_sample["ncod/features"]

    class Twice:
        def step(self, state, grads, apply):
            return (lambda: [grads() for _ in range(looks)][-1]), apply

    class Stray:
        """Passes other samples, more of them than a batch has, through the model between steps and in its own batch hook."""

        def batch(self, state, batch):
            state.model(state.data.train.x)

        def step_end(self, state):
            state.model(state.data.train.x)

    twice = part(Twice(), "optimizer/twice", rung={"step": "own"})
    stray = part(Stray(), "with/stray", rung={"batch": "mix", "step_end": "average"})
    assert torch.equal(trained(twice), trained(twice, stray))


def test_a_model_without_a_linear_layer_is_refused():
    with pytest.raises(UserError, match="none"):
        made(model=nn.Sequential(nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 3, 5), nn.Flatten()))


def test_u_grows_for_wrong_labels():
    training = loop(part(build(rate=2.0), "with/ncod", rung=RUNG), n=200, duration="12ep")
    state = training.state
    clean = state.data.train.x[:, :3].argmax(1)
    state.data.train.relabel(torch.where(torch.arange(200) % 5 == 0, (clean + 1) % 3, clean))
    training.run()
    u, wrong = state.per_sample["ncod/u"], torch.arange(200) % 5 == 0
    assert u[wrong].mean() > u[~wrong].mean() + 0.4
