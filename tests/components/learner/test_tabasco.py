"""The measures against scipy, scikit-learn and loops; the two-stage choice on made-up classes; what is learned from what is chosen."""

from types import SimpleNamespace

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from sklearn.mixture import GaussianMixture
from small import loop, part
from torch.nn import functional as F

from runner.components.eval.selection_by_class import build as evaluator
from runner.components.learner import tabasco


def predictions(n=60, classes=4):
    g = torch.Generator().manual_seed(0)
    return (2 * torch.randn(n, classes, generator=g)).softmax(1), torch.arange(n) % classes, torch.randn(n, 5, generator=g)


def test_the_divergence_is_scipys_with_a_bounded_weight():
    p, y, _ = predictions()
    mean = torch.stack([p[y == c].mean(0) for c in range(4)])
    for found, q, c in zip(tabasco.wjsd(p, y, mean), p, y, strict=True):
        weight = min(q.max() / q[c], mean[c].max() / mean[c, c])
        assert found.item() == pytest.approx(float(weight) * jensenshannon(q, F.one_hot(c, 4)) ** 2, rel=1e-4)


def test_centroids_by_loops():
    p, y, features = predictions()
    mean = tabasco.class_means(p, y, 4)
    centres, sizes = tabasco.centroids(p, features, y, mean)
    for c in range(4):
        main, raised = int(mean[c].argmax()), []
        for q in p[y == c]:
            raised.append(q.clone())
            raised[-1][main] *= max(1.0, float(q[main] / mean[c, main]))
        bar = sum(raised) / len(raised)
        top = int(bar.argmax())
        rows = [k for k in range(60) if y[k] == c and p[k].argmax() == top and p[k, top] > bar[top]]
        assert sizes[c] == len(rows) > 0
        assert torch.allclose(centres[c], features[rows].mean(0), atol=1e-6)


def test_where_a_mixture_puts_a_value():
    g = torch.Generator().manual_seed(0)
    x = torch.cat([0.3 + 0.1 * torch.randn(300, generator=g), 0.7 + 0.05 * torch.randn(200, generator=g)]).double()
    mixture = GaussianMixture(2, tol=1e-8, max_iter=500, reg_covar=5e-4, random_state=0).fit(x[:, None].numpy())
    lower = torch.tensor(mixture.predict_proba(x[:, None].numpy())[:, mixture.means_.argmin()])
    values = torch.linspace(0, 1, 41).double()
    expected = mixture.predict(values[:, None].numpy()) == mixture.means_.argmin()
    assert [tabasco.is_lower(v, x, lower) for v in values] == expected.tolist()
    assert 0 < expected.sum() < 41


def test_the_measure_that_separates_decides():
    g = torch.Generator().manual_seed(3)
    right = torch.arange(200) < 50
    near = torch.where(right, 0.8, -0.5) + 0.1 * torch.randn(200, generator=g)  # the cosine to the centroid
    divergence = torch.where(right, 0.2, 0.8) + 0.04 * torch.randn(200, generator=g)
    assert torch.equal(tabasco.choose(divergence, near, False), right)
    assert torch.equal(tabasco.choose(divergence, near, True), ~right)  # around the centroid of a larger class
    apart = torch.rand(200, generator=g)  # a cosine that says nothing: both its groups have the mean divergence, nearer to the wrong labels
    assert torch.equal(tabasco.choose(divergence, apart, False), right)


def test_only_the_chosen_are_learned_from_after_the_warm_up():
    learner, seen = tabasco.build("2ep"), []

    def look(training):
        seen.append((training.state.step, int(training.state.per_sample["selected"].sum())))

    training = loop(learner=part(learner, "learner/tabasco"), duration="4ep")
    training.run(look)
    assert {n for step, n in seen if step <= 10} == {40}
    assert all(0 < n < 40 for step, n in seen if step > 10)
    state = training.state
    batch = state.data.train.fetch(torch.arange(40))
    batch.t = batch.y
    selected = state.per_sample["selected"].bool()
    expected = F.cross_entropy(state.model(batch.x[selected]), batch.y[selected])
    assert learner.compute(state, batch).mean().item() == pytest.approx(expected.item(), rel=1e-5)


def test_f1_of_rare_and_frequent_classes():
    split = SimpleNamespace(y=torch.tensor([0, 0, 0, 1, 1, 2]), clean=torch.tensor([0, 0, 0, 1, 0, 2]))
    state = SimpleNamespace(per_sample={"selected": torch.tensor([1.0, 1, 0, 1, 1, 0])}, info=SimpleNamespace(outputs=3))
    found = evaluator(2).measure(state, split)
    assert found["selection_f1_rare"].item() == pytest.approx(100 * (2 / 3 + 0) / 2)  # precision 1/2 and recall 1; the sample of class 2 was left out
    assert found["selection_f1_frequent"].item() == pytest.approx(80)  # precision 1, recall 2/3
    assert evaluator(3).measure(state, split).keys() == {"selection_f1_rare"}  # there are no others
    state.per_sample = {}
    assert evaluator(2).measure(state, split) == {}
