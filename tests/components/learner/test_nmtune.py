"""The penalties against numpy, the two phases, and the spectrum of features whose singular values are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import loop, part
from torch import nn
from torch.nn import functional as F

from runner import UserError
from runner.components.eval import shifted
from runner.components.eval.spectrum import build as evaluator
from runner.components.eval.spectrum import spectrum
from runner.components.learner import nmtune


def tuned(duration="4ep", **options):
    learner = nmtune.build(pretraining="2ep", **options)
    made = loop(learner=part(learner, "learner/nmtune", rung={"batch": "target"}, owns=("phases",)), duration=duration)
    return made, learner


def test_penalties_against_numpy():
    g = torch.Generator().manual_seed(0)
    z, f = torch.randn(12, 7, generator=g), torch.randn(12, 7, generator=g)
    rows = lambda x: x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True)
    same = np.mean((rows(z) - rows(f)) ** 2)
    covariance = np.cov(z.numpy(), rowvar=False)
    apart = ((covariance**2).sum() - (np.diag(covariance) ** 2).sum()) / 7
    values = np.linalg.svd(z.numpy(), compute_uv=False)
    leading = np.mean(np.sort(values / values.sum())[::-1][:5])
    assert nmtune.reshaping(z, f, 2.0, 0.5, 3.0).item() == pytest.approx(2 * same + 0.5 * apart - 3 * leading, rel=1e-5)
    assert nmtune.reshaping(5 * f, f, 2.0, 0.0, 0.0).item() == pytest.approx(0, abs=1e-6)  # only directions count


def test_the_network_stands_still_while_the_classifier_learns_true_labels():
    made, learner = tuned(labels=24)
    state, seen = made.state, []
    state.data.train.relabel((state.data.train.y + 1) % 3)
    start = state.weights()

    def look(training):
        seen.append((state.step, training.state.weights(), [p.detach().clone() for p in learner.head.parameters()]))

    made.run(look)
    before, after = [s for s in seen if s[0] <= 10], [s for s in seen if s[0] >= 10]
    assert any((before[-1][1][k] != start[k]).any() for k in start)
    assert all(torch.equal(after[0][1][k], after[-1][1][k]) for k in start)
    assert all(torch.equal(a, b) for a, b in zip(before[0][2], before[-1][2], strict=True))
    assert any((a != b).any() for a, b in zip(after[0][2], after[-1][2], strict=True))
    assert int(learner.known.sum()) == 24
    batch = learner.batch(state, state.data.train.fetch(torch.arange(8)))
    assert learner.known[batch.i].all()
    assert torch.equal(batch.t, state.data.train.clean[batch.i])
    assert torch.equal(batch.y, state.data.train.y[batch.i])
    left_out = state.data.train.fetch(torch.arange(8))
    left_out.w = torch.zeros(8)  # as a hook before it weighs samples that it holds out
    assert torch.equal(learner.batch(state, left_out).w, torch.zeros(len(batch.i)))


def test_what_is_predicted():
    made, learner = tuned()
    state, x = made.state, torch.randn(4, 5)
    learner.setup(state)
    assert torch.equal(learner.predict(state, x), state.model(x))
    state.phase = 1
    assert torch.allclose(learner.predict(state, x), learner.head(learner.reshape(state.model[:-1](x))))


def test_spectrum_of_known_singular_values():
    share = spectrum(torch.tensor([[3.0, -3.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]))  # rows of norm 1 and mean 0: singular values 1 and 1
    assert torch.allclose(share, torch.tensor([0.5, 0.5]).double())
    state = SimpleNamespace(model=nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), eval_batch=8, device="cpu")
    x = torch.tensor([[1.0, -1.0, 0.0, 0.0], [2.0, -2.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0], [0.0, 0.0, 5.0, -5.0]])
    split = type("Four", (), {"__len__": lambda self: 4, "batches": lambda self, *a: [SimpleNamespace(x=x)]})()
    found = evaluator().measure(state, split)
    assert float(found["sve"]) == pytest.approx(np.log(2))
    assert float(found["lsvr"]) == pytest.approx(np.log(2))
    state.model = nn.Flatten()
    with pytest.raises(UserError, match="has none"):
        evaluator().measure(state, split)


def test_shifted_inputs():
    made, _ = tuned()
    state, split = made.state, made.state.data.test
    state.predict = lambda x: F.one_hot(torch.zeros(len(x), dtype=torch.long), 3).float()
    right = 100 * (split.y == 0).float().mean()
    assert shifted.build().measure(state, split)["acc_shifted"] == right
    seen = []
    state.predict = lambda x: seen.append(x) or torch.zeros(len(x), 3)
    shifted.build(strength=0.5).measure(state, split)
    change = torch.cat(seen).view(10, -1, 5) - split.x
    assert change.std().item() == pytest.approx(0.5, rel=0.05)
    assert not torch.equal(change[0], change[1])
    first = torch.cat(seen)
    seen.clear()
    shifted.build(strength=0.5).measure(state, split)
    assert torch.equal(torch.cat(seen), first)
