"""Gradual magnitude pruning: the cubic schedule, exact counts at every step, and no weight that comes back."""

import pytest
import torch
from small import loop

from runner.components.sparsity import magnitude
from runner.core.events import Component


def pruned(n=64, duration="100it", **options):
    return loop(Component("sparsity/magnitude", magnitude.build(**options), magnitude.CARD), n=n, duration=duration)


def test_sparsity_follows_the_cubic_schedule():
    """By hand: pruning at steps 20, 30, ... 60 of 100, so (1 - (t - 20) / 40)^3 is 1, 27/64, 1/8, 1/64 and 0."""
    training = pruned(sparsity=0.8, initial=0.1, begin=0.2, end=0.6, every="10it")
    kept = {}
    training.run(lambda t: kept.setdefault(t.state.step, sum(int(m.sum()) for m in t.state.masks.values()) if t.state.masks else 64))
    expected = {20: 0.1, 30: 0.8 - 0.7 * 27 / 64, 40: 0.8 - 0.7 / 8, 50: 0.8 - 0.7 / 64, 60: 0.8}
    for step in range(1, 101):
        last = max((t for t in expected if t <= step), default=None)
        assert kept[step] == (64 if last is None else round((1 - expected[last]) * 64)), step


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_smallest_weights_are_pruned_and_stay_pruned(scope):
    training = pruned(sparsity=0.75, begin=0.1, end=0.9, every="7it", scope=scope)
    gone = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in training.state.model.named_parameters() if p.dim() == 2}

    def look(training):
        for name, mask in training.state.masks.items():
            assert (mask[gone[name]] == 0).all()
            gone[name] |= mask == 0
            assert (training.state.model.get_parameter(name)[gone[name]] == 0).all()

    training.run(look)
    assert sum(int((m == 0).sum()) for m in training.state.masks.values()) == 48
    if scope == "layer":
        assert [int(m.sum()) for m in training.state.masks.values()] == [10, 6]


def test_one_shot_is_torch_prune():
    """Against torch.nn.utils.prune, which prunes the same entries of the same weights."""
    from torch.nn.utils import prune

    training = pruned(sparsity=0.5, scope="global")
    model = training.state.model
    layers = [(model[0], "weight"), (model[3], "weight")]
    hook = magnitude.build(sparsity=0.5, scope="global")
    import copy

    other = copy.deepcopy(model)
    prune.global_unstructured([(other[0], "weight"), (other[3], "weight")], prune.L1Unstructured, amount=32)
    hook.prune(training.state, 0.5)
    for (layer, _), index in zip(layers, (0, 3), strict=True):
        assert torch.equal(layer.weight, other[index].weight)


def test_dense_until_it_begins():
    straight, late = loop(n=64, duration="10it"), pruned(duration="10it", sparsity=0.9, begin=0.95, end=1.0, every="1it")
    weights = []
    for training in (straight, late):
        training.run(lambda t: weights.append(t.state.weights()) if t.state.step == 9 else None)
    assert all(torch.equal(w, weights[1][n]) for n, w in weights[0].items())
    assert sum(int(m.sum()) for m in late.state.masks.values()) == round(0.1 * 64)


@pytest.mark.parametrize("bad", [{"begin": 0.8, "end": 0.5}, {"initial": 0.95, "sparsity": 0.9}])
def test_schedules_that_cannot_be(bad):
    with pytest.raises(ValueError, match="must"):
        magnitude.build(**bad)
