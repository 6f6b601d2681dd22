"""Neighbours by brute force; and which samples of a planted problem each strategy takes out."""

import importlib

import torch
from small import loop, part
from torch import nn

knn = importlib.import_module("runner.components.with.knn_cleaning")


def test_nearest_by_brute_force():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=g)
    found = knn.nearest(x, x, torch.arange(30), 3, chunk=7)
    for k in range(30):
        cosines = torch.nn.functional.cosine_similarity(x[k : k + 1], x)
        cosines[k] = -2
        assert set(found[k].tolist()) == set(cosines.topk(3)[1].tolist())


def planted(**options):
    """Three classes far apart in two dimensions, the last one the catch-all; every eighth sample is a lost positive."""
    hook = knn.build(warmup="1ep", **options)
    made = loop(part(hook, "with/knn_cleaning", rung={"batch": "target"}, owns=("phases",)), n=240, model=nn.Linear(5, 3), duration="2ep")
    train, state = made.state.data.train, made.state
    clean = torch.arange(240) % 3
    train.x = torch.eye(5)[clean] + 0.05 * torch.randn(240, 5, generator=torch.Generator().manual_seed(0))
    lost = (torch.arange(240) % 8 == 0) & (clean != 2)
    train.y, train.clean = torch.where(lost, 2, clean), clean
    with torch.no_grad():  # a network that calls all negative
        state.model.weight.zero_()
        state.model.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    hook.setup(state)
    hook.flag(state)
    return hook, lost, clean, train


def test_intrinsic_and_extrinsic_take_out_the_lost_positives():
    for options in ({"strategy": "intrinsic"}, {"strategy": "extrinsic", "clean": 0.3}):
        hook, lost, _, _ = planted(**options)
        assert torch.equal(hook.kept == 0, lost)


def test_of_a_share_of_less_than_a_sample_one_is_trusted():
    hook, *_ = planted(strategy="extrinsic", clean=0.001)
    assert len(hook.trusted) == 1
    assert (hook.kept == 1).all()


def test_relabelling_finds_their_classes():
    hook, lost, clean, train = planted(strategy="extrinsic", clean=0.3, action="relabel")
    assert torch.equal(hook.targets, clean)
    assert (hook.kept == 1).all()
    assert not torch.equal(train.y, clean)  # the labels themselves stay
    assert lost.any()


def test_random_takes_as_many_and_others():
    hook, lost, _, train = planted(strategy="random")
    assert (hook.kept == 0).sum() == lost.sum()
    assert (train.y[hook.kept == 0] == 2).all()
    assert not torch.equal(hook.kept == 0, lost)


def test_weights_of_a_batch():
    hook, _, _, train = planted()
    made = loop(n=8)
    made.state.phase = 1
    batch = train.fetch(torch.arange(16))
    hook.batch(made.state, batch)
    assert batch.w.mean().item() == 1.0
    assert ((batch.w == 0) == (hook.kept[:16] == 0)).all()
