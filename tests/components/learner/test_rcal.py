import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from runner import UserError
from runner.components.learner._calibration import borrowed, inliers, outlier_factors, roots, statistics
from runner.components.learner.rcal import build, contrast, view
from runner.core.data import Split
from runner.core.rng import Streams

COUNTS = (60, 30, 6)


def setting(**options):
    g = torch.Generator().manual_seed(0)
    y = torch.arange(3).repeat_interleave(torch.tensor(COUNTS))
    train = Split(torch.randn(len(y), 1, 4, 4, generator=g) + y[:, None, None, None], y)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3))
    state = SimpleNamespace(
        model=model, rng=Streams(0), device="cpu", data=SimpleNamespace(train=train), info=SimpleNamespace(outputs=3), per_sample={}, phase=1, eval_batch=40,
        loss=lambda z, t: F.cross_entropy(z, t, reduction="none"),
    )  # fmt: skip
    learner = build(tail=1, **options)
    learner.setup(state)
    learner.calibrate(state)
    return learner, state, train.fetch(torch.arange(0, 96, 7))


def test_outlier_factors_are_those_of_scikit_learn():
    from sklearn.neighbors import LocalOutlierFactor

    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[0] += 6
    reference = LocalOutlierFactor(n_neighbors=10).fit(x.numpy())
    assert torch.allclose(outlier_factors(x, 10), torch.from_numpy(-reference.negative_outlier_factor_), atol=1e-8)


def test_means_without_outliers_are_nearer_to_the_clean_ones():
    g = torch.Generator().manual_seed(0)
    centres = 4 * torch.eye(4)
    truth = torch.arange(4).repeat_interleave(torch.tensor([200, 100, 50, 30]))
    x = centres[truth] + torch.randn(len(truth), 4, generator=g)
    y = torch.where(torch.rand(len(truth), generator=g) < 0.2, truth[torch.randperm(len(truth), generator=g)], truth)
    inside = inliers(x, y, 4, 20, 1.2)
    noisy, calibrated = statistics(x, y, 4)[0], statistics(x[inside], y[inside], 4)[0]
    assert (calibrated - centres).norm() < 0.8 * (noisy - centres).norm()
    assert (y == truth)[inside].float().mean() > (y == truth).float().mean()


def test_statistics_and_what_the_smallest_class_borrows():
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    means, covariances, sizes = statistics(x, torch.tensor([0] * 8 + [2] * 4), 4)
    assert torch.allclose(covariances[0], x[:8].T.cov(), atol=1e-6)
    assert torch.allclose(means[2], x[8:].mean(0))
    assert sizes.tolist() == [8, 0, 4, 0]
    assert not covariances[1].any()
    means = torch.tensor([[0.0], [1.0], [10.0], [2.0]])
    covariances = torch.tensor([1.0, 2.0, 100.0, 3.0])[:, None, None]
    mean, covariance = borrowed(means, covariances, torch.tensor([30.0, 10.0, 50.0, 5.0]), tail=1, q=2, keep=0.6)
    assert mean.flatten().tolist() == pytest.approx([0, 1, 10, 0.6 * 2 + 0.4 * (0.75 * 0 + 0.25 * 1)])  # the two nearest have sizes 30 and 10
    assert covariance.flatten().tolist() == pytest.approx([1, 2, 100, 0.6 * 3 + 0.4 * (0.75 * 1 + 0.25 * 2)])
    root = roots(covariance, 0.25)
    assert root.square().flatten().tolist() == pytest.approx((covariance + 0.25).flatten().tolist())


def test_classes_without_samples_neither_borrow_nor_lend():
    means, covariances = torch.tensor([[0.0], [0.0], [3.0], [1.0]]), torch.tensor([0.0, 0.0, 1.0, 2.0])[:, None, None]
    sizes = torch.tensor([0.0, 0.0, 8.0, 4.0])  # the nearest mean to 1 is that of a class that nobody has
    mean, covariance = borrowed(means, covariances, sizes, tail=1, q=1, keep=0.5)
    assert mean.flatten().tolist() == [0, 0, 3, 2]
    assert covariance.flatten().tolist() == [0, 0, 1, 1.5]
    alone = borrowed(means[:3], covariances[:3], sizes[:3], tail=3, q=1, keep=0.5)
    assert all(torch.equal(found, given[:3]) for found, given in zip(alone, (means, covariances), strict=True))


def test_contrast_in_closed_form():
    views = torch.eye(4) * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None]  # lengths do not matter
    expected = math.log(1 + 6 * math.exp(-1 / 0.5))  # six views of other samples, all at a right angle
    assert contrast(views, views, 0.5).tolist() == pytest.approx([expected] * 4, rel=1e-5)


def test_views_differ_from_image_to_image_and_from_time_to_time():
    x, stream = torch.rand(1, 1, 8, 8).expand(2, 1, 8, 8).contiguous(), torch.Generator().manual_seed(0)
    a, b = view(x, stream), view(x, stream)
    assert a.shape == x.shape
    assert not torch.allclose(a[0], a[1], atol=0.1)
    assert not torch.allclose(a, b, atol=0.1)


def test_samples_and_drawn_features_balance_the_classes():
    missing = setting(fill=1.0)[0].known["missing"]
    assert (missing + torch.tensor(COUNTS)).tolist() == [60, 60, 60]
    learner, state, batch = setting(fill=2.0, stay=0.0)
    assert (learner.known["missing"] + torch.tensor(COUNTS)).tolist() == [120, 120, 120]
    seen = []
    loss, state.loss = state.loss, lambda z, t: seen.append(t) or loss(z, t)
    for _ in range(100):
        learner.compute(state, batch)
    drawn = torch.cat(seen[1::2]).bincount(minlength=3) / (100 * len(batch.i))
    assert drawn.tolist() == pytest.approx([60 / 264, 90 / 264, 114 / 264], abs=0.04)


def test_drawn_features_have_the_recovered_distributions():
    learner, state, batch = setting(fill=3.0, stay=0.0)
    seen = []
    learner.last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    loss, labels = state.loss, []
    state.loss = lambda z, t: labels.append(t) or loss(z, t)
    for _ in range(400):
        learner.compute(state, batch)
    drawn, c = torch.cat(seen[2::3]), torch.cat(labels[1::2])  # the last layer sees a batch twice, then what is drawn
    for k in range(3):
        assert torch.allclose(drawn[c == k].mean(0), learner.known["means"][k], atol=0.06)
        assert torch.allclose(drawn[c == k].T.cov(), learner.known["roots"][k] @ learner.known["roots"][k].T, atol=0.06)


def test_without_drawn_features_the_loss_is_cross_entropy_and_the_way_from_the_contrastive_features():
    learner, state, batch = setting(fill=0.0, stay=2.0)
    plain = F.cross_entropy(state.model(batch.x), batch.y, reduction="none")
    assert torch.allclose(learner.compute(state, batch), plain)
    state.per_sample["rcal"] = state.per_sample["rcal"] + 0.3
    features = state.model[:3](state.data.train.x)
    assert torch.allclose(learner.compute(state, batch), plain + 2 * 5 * 0.3**2 / features.var(0).sum(), atol=1e-4)


def test_a_model_without_a_linear_layer_is_refused():
    with pytest.raises(UserError, match="last linear layer"):
        build().setup(SimpleNamespace(model=nn.Conv2d(1, 1, 3), rng=Streams(0), device="cpu"))
