"""Lottery tickets: brute force over the trained weights, bit-equal rewinding, exact counts, exact resume inside a round."""

import pytest
import torch

from runner import contracts
from runner.core.errors import UserError


def tickets(digits, duration="36it", seed=0, **options):
    return digits({"name": "lottery", "rounds": 3, "rate": 0.3, **options}, duration=duration, seed=seed)


def layers(loop):
    return {f"{name}.weight": module.weight for name, module in loop.state.model.named_modules() if isinstance(module, torch.nn.Linear)}


def record(loop):
    """Weights after every step (0: before the first), and weights and masks as each round begins."""
    after, begins = {0: loop.state.weights()}, []
    enter = loop.enter_phase

    def look():
        enter()
        begins.append((loop.state.step, loop.state.weights(), {n: m.clone() for n, m in loop.state.masks.items()}))

    loop.enter_phase = look
    loop.run(lambda t: after.__setitem__(t.state.step, t.state.weights()))
    return after, begins


@pytest.mark.parametrize("rewind", [0, 5])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_masks_by_brute_force_and_weights_as_they_were(scope, rewind, digits):
    loop = tickets(digits, scope=scope, rewind=f"{rewind}it")
    sizes = {name: w.numel() for name, w in layers(loop).items()}
    after, begins = record(loop)
    assert [step for step, *_ in begins] == [0, 12, 24]
    assert not begins[0][2]
    alive = {(name, k) for name, n in sizes.items() for k in range(n)}
    for r, (step, weights, masks) in enumerate(begins[1:], 1):
        trained = {name: after[step][name].flatten().abs().tolist() for name in sizes}
        groups = [list(sizes)] if scope == "global" else [[name] for name in sizes]
        for group in groups:
            ranked = sorted((p for p in alive if p[0] in group), key=lambda p: trained[p[0]][p[1]])
            keep = round(0.7**r * sum(sizes[name] for name in group))
            alive -= set(ranked[: len(ranked) - keep])
        assert {(name, k) for name in sizes for k in masks[name].flatten().nonzero().flatten().tolist()} == alive
        for name, w in weights.items():
            early, mask = after[rewind][name], masks.get(name)
            assert torch.equal(w, early if mask is None else torch.where(mask.bool(), early, torch.zeros(())))
        assert any(not torch.equal(w, after[step][name]) for name, w in weights.items())
    assert all((after[36][name][mask == 0] == 0).all() for name, mask in begins[-1][2].items())


def test_sparsity_of_every_round(digits):
    loop = tickets(digits, duration="20it", rounds=5, rate=0.5)
    total, kept = sum(w.numel() for w in layers(loop).values()), {}
    loop.run(lambda t: kept.setdefault(t.state.phase, sum(int((w != 0).sum()) for w in layers(t).values())))
    assert kept == {r: total // 2**r for r in range(5)}


def test_surviving_zeros_do_not_bring_pruned_weights_back(digits):
    loop = tickets(digits)
    loop.run()
    before = {name: mask.clone() for name, mask in loop.state.masks.items()}
    for w in layers(loop).values():
        w.data.zero_()
    loop.components[-1].object.prune(loop.state, 0.3)
    for name, mask in loop.state.masks.items():
        assert (mask <= before[name]).all()
        assert mask.sum() == round(0.3 * mask.numel())


def test_a_round_has_its_own_length_optimizer_and_schedule(digits):
    loop = tickets(digits, duration="1it", round="8it")
    loop.make_schedule = lambda clock: lambda step: 1 - step / clock.total
    loop.renew_optimizer()
    rates, optimizers = [], []
    loop.run(lambda t: (rates.append(t.factor), optimizers.append(t.state.optimizer)))
    assert rates == [1 - step / 8 for step in range(8)] * 3
    assert len(set(map(id, optimizers))) == 3


@pytest.mark.parametrize("stop", [3, 12, 17])
def test_resume_in_the_first_round_between_rounds_and_in_the_second(stop, digits):
    options = {"rewind": "5it", "scope": "global"}
    straight = tickets(digits, **options)
    straight.run()

    second = contracts.interrupted(lambda: tickets(digits, **options), stop)
    assert all(torch.equal(w, second.state.weights()[name]) for name, w in straight.state.weights().items())
    assert all(torch.equal(mask, second.state.masks[name]) for name, mask in straight.state.masks.items())


def test_rewinding_behind_the_first_round_is_refused(digits):
    with pytest.raises(UserError, match="first round"):
        tickets(digits, rewind="13it")
