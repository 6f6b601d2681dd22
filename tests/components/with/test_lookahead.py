"""lookahead: the closed form on a quadratic, the weights that are evaluated, and masks."""

import small
import torch

from runner.config import registry

build = registry.load("with", "lookahead").build
part = lambda **args: small.part(build(**args), "with/lookahead", rung={"step": "average"}, owns=("eval-weights",))


def test_one_step_blocks_shrink_the_rate():
    """With k = 1 and no momentum, a step of alpha * lr."""
    plain = torch.optim.SGD
    made = small.loop(part(k=1, alpha=0.3))
    made.state.optimizers = []
    made.state._optimizer = lambda p: plain(p, 0.1)
    made.renew_optimizer()
    made.run()
    other = small.loop()
    other.state.optimizers = []
    other.state._optimizer = lambda p: plain(p, 0.03)
    other.renew_optimizer()
    other.run()
    assert torch.allclose(small.weights(made), small.weights(other), atol=1e-5)


def test_blocks_by_hand():
    """On 1/2 w^2 with rate r the fast weights shrink by (1 - r) a step: slow <- slow (1 - alpha + alpha (1 - r)^k)."""
    w = torch.nn.Parameter(torch.tensor([4.0, -2.0]))
    optimizer = torch.optim.SGD([w], 0.1)

    class State:
        parameters = staticmethod(lambda: [w])
        restarts = 0

    def grads():
        w.grad = w.detach().clone()

    ahead = build(k=3, alpha=0.5)
    grads, apply = ahead.step(State, grads, optimizer.step)
    for k in range(1, 10):
        grads()
        apply()
        blocks, rest = divmod(k, 3)
        expected = torch.tensor([4.0, -2.0]) * (0.5 + 0.5 * 0.9**3) ** blocks
        assert torch.allclose(w.detach(), expected * 0.9**rest, atol=1e-6)
        ahead.eval_enter(State)
        assert torch.allclose(w.detach(), expected, atol=1e-6), "the slow weights are evaluated"
        ahead.eval_exit(State)
        assert torch.allclose(w.detach(), expected * 0.9**rest, atol=1e-6)


def test_masks_hold():
    class Half:
        def setup(self, state):
            w = state.model[0].weight
            state.masks["0.weight"] = (torch.arange(w.numel()).view_as(w) % 2 == 0).to(w)
            state.enforce_masks()

    made = small.loop(part(k=2, alpha=0.5), small.part(Half(), "sparsity/half", owns=("mask",)))
    made.run()
    weight, mask = made.state.model[0].weight, made.state.masks["0.weight"]
    assert (weight[mask == 0] == 0).all()
    assert (weight[mask == 1] != 0).all()
