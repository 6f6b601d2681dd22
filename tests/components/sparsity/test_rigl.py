"""RigL's update by brute force: which connections go, which come, with which gradient, and that nothing else moves in that step."""

import copy
import math

import torch
from small import loop, part

from runner.components.sparsity import rigl
from runner.core.events import Component


class Before:
    """Everything that the update may depend on, taken at the start of the step."""

    def batch(self, state, batch):
        self.model, self.masks = copy.deepcopy(state.model), {name: m.bool() for name, m in state.masks.items()}
        self.x, self.y, self.at = batch.x, batch.y, state.step


def started(**options):
    before = Before()
    made = loop(
        Component("sparsity/rigl", rigl.build(**{"sparsity": 0.6, "every": "3it", **options}), rigl.CARD),
        part(before, "with/before", rung={"batch": "adversarial"}), n=64, duration="20it",
    )  # fmt: skip
    return made, before


def test_every_update_by_brute_force():
    training, before = started(alpha=0.5)
    moved = []

    def check(training):
        state, at = training.state, before.at
        if at % 3 or at >= 15:
            assert all(torch.equal(state.masks[n].bool(), m) for n, m in before.masks.items())
            return
        torch.nn.functional.cross_entropy(before.model(before.x), before.y).backward()  # dense: the weights are zero where masked, the gradient is not
        for name, mask in before.masks.items():
            w, g = before.model.get_parameter(name), before.model.get_parameter(name).grad.flatten().tolist()
            value, active = w.flatten().tolist(), [i for i, on in enumerate(mask.flatten().tolist()) if on]
            k = int(0.25 * (1 + math.cos(math.pi * at / 15)) * len(active))
            kept = sorted(active, key=lambda i: -abs(value[i]))[: len(active) - k]
            free = [i for i in range(len(value)) if i not in kept]
            new = kept + sorted(free, key=lambda i: -abs(g[i]))[:k]
            after = state.masks[name].flatten()
            assert {i for i in range(len(value)) if after[i]} == set(new)
            # no step of the weights: those that stay have their value, those that are new are zero
            expected = [value[i] if i in new and i in active else 0.0 for i in range(len(value))]
            assert state.model.get_parameter(name).flatten().tolist() == expected
            moved.append(len(set(new) - set(active)))
            if at:
                momentum = state.optimizer.state[state.model.get_parameter(name)]["momentum_buffer"].flatten()
                assert all(momentum[i] == 0 for i in set(new) - set(active))

    training.run(check)
    assert sum(moved) > 10


def test_the_number_of_weights_never_changes():
    training, _ = started(alpha=0.9, every="1it", end=1.0)
    sizes = {name: int(m.sum()) for name, m in training.state.masks.items()}
    seen = []
    training.run(lambda t: seen.append({name: int(m.sum()) for name, m in t.state.masks.items()}))
    assert seen == [sizes] * 20


def test_a_second_gradient_of_the_step_is_not_the_one_that_grows():
    """With an optimizer that looks twice, the scores are the gradients at the weights themselves."""

    class Twice:
        def step(self, state, grads, apply):
            def both():
                loss = grads()
                with torch.no_grad():
                    for p in state.model.parameters():
                        p.mul_(-3)
                grads()
                with torch.no_grad():
                    for p in state.model.parameters():
                        p.div_(-3)
                return loss

            return both, apply

    scores = []
    for extra in ([], [part(Twice(), "with/twice", rung={"step": "perturb"})]):
        hook = rigl.build(sparsity=0.6)
        training = loop(Component("sparsity/rigl", hook, rigl.CARD), *extra, n=16)
        training.state.batch = training.state.data.train.fetch(torch.arange(8))
        training.grads()
        scores.append(hook.dense)
        assert training.state.replay
    assert list(scores[0]) == ["0.weight", "3.weight"]
    assert all(torch.equal(g, scores[1][n]) and (g > 0).any() for n, g in scores[0].items())


def test_an_overflowed_gradient_moves_no_mask():
    training, _ = started(every="1it")

    class Infinite:
        def grads(self, state):
            state.model[0].weight.grad.fill_(torch.inf)

    before = {n: m.clone() for n, m in training.state.masks.items()}
    training.state.model[0].weight.register_hook(lambda g: g / 0)
    training.state.batch = training.state.data.train.fetch(torch.arange(8))
    training.grads()
    training.apply()
    assert training.state.optimizer.state  # the step of the weights is left to the loop
    assert all(torch.equal(m, before[n]) for n, m in training.state.masks.items())
