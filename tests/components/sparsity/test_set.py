"""SET: the smallest weights go, the places of the new ones are uniform over what is free."""

import math

import pytest
import torch
from small import loop, part

from runner.components.sparsity import set as sparse_evolution
from runner.core.events import Component


def test_drops_the_smallest_and_replaces_as_many():
    seen = []

    class After:
        def step_end(self, state):  # before SET in the same event
            seen.append(({n: m.clone() for n, m in state.masks.items()}, {n: state.model.get_parameter(n).detach().clone() for n in state.masks}))

    hook = Component("sparsity/set", sparse_evolution.build(sparsity=0.5, fraction=0.3, every="4it"), sparse_evolution.CARD)
    training = loop(hook, part(After(), "with/after", rung={"step_end": "inner-weights"}), n=32, duration="16it")
    changed = []

    def check(training):
        masks, weights = seen[-1]
        for name, old in masks.items():
            new, w = training.state.masks[name], weights[name].abs()
            if training.state.step % 4 or training.state.step == 16:
                assert torch.equal(new, old)
                continue
            k = int(0.3 * int(old.sum()))
            smallest = sorted(w[old == 1].tolist())
            assert int(new.sum()) == int(old.sum())
            assert (new[(old == 1) & (w >= smallest[k])] == 1).all()  # all but the k smallest stay
            assert (training.state.model.get_parameter(name)[(new == 1) & (old == 0)] == 0).all()
            changed.append(int(((new == 1) & (old == 0)).sum()))

    training.run(check)
    assert sum(changed) > 0


def test_new_places_are_uniform():
    """20 of 40 places are free, 6 dropped join them; each of the free ones is taken with probability 6 / 26."""
    from types import SimpleNamespace

    from runner.components.sparsity._masks import rewire

    g = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(40, 1, bias=False)
    model = torch.nn.Sequential(layer)
    hits = torch.zeros(40)
    for _ in range(2000):
        state = SimpleNamespace(model=model, optimizers=[], masks={"0.weight": (torch.arange(40) < 20).float().view(1, 40)})
        with torch.no_grad():
            layer.weight.copy_(torch.arange(40).flip(0).float().view(1, 40))
        rewire(state, 0.3, {"0.weight": torch.rand(1, 40, generator=g)})
        hits += state.masks["0.weight"][0]
    assert (hits[:14] == 2000).all()
    assert (hits[14:] / 2000 - 6 / 26).abs().max() < 4.5 * (6 / 26 * 20 / 26 / 2000) ** 0.5


def test_annealing_is_half_a_cosine(monkeypatch):
    """Evci et al. 2020, section 3: alpha / 2 (1 + cos(t pi / T_end))."""
    seen = []
    monkeypatch.setattr(sparse_evolution, "rewire", lambda state, share, draws: seen.append((state.step + 1, share)))
    component = sparse_evolution.build(sparsity=0.5, fraction=0.4, every="4it", end=0.75, anneal="cosine")
    loop(Component("sparsity/set", component, sparse_evolution.CARD), n=32, duration="16it").run()
    assert [step for step, _ in seen] == [4, 8]
    assert [share for _, share in seen] == pytest.approx([0.2 * (1 + math.cos(math.pi / 3)), 0.2 * (1 + math.cos(2 * math.pi / 3))])
