"""TRADES: accuracy on clean inputs plus agreement with the predictions on the worst inputs nearby."""

import torch
from torch.nn import functional as F

from runner import UserError, card

CARD = card(
    paper="trades2019",
    arxiv="1901.08573",
    source="Zhang et al. 2019, equation 5 and algorithm 1; authors' code yaodongyu/TRADES, trades.py and train_trades_cifar10.py",
    off={"beta": 0.0},
    tasks=("classification",),
    cost=13,
)


def kl(log_p, log_q):
    """KL(p || q) per sample."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


class Trades:
    def __init__(self, beta, epsilon, step, steps, low, high):
        self.beta, self.epsilon, self.size, self.steps, self.low, self.high = beta, epsilon, step, steps, low, high

    def attack(self, state, x):
        """Inputs within epsilon of x in the maximum norm at which the predictions differ most, by projected sign ascent."""
        training = state.model.training
        state.model.eval()
        with torch.no_grad():
            clean = state.model(x).log_softmax(-1)
        moved = x + 0.001 * torch.randn(x.shape, generator=state.rng("learner/trades")).to(x)
        for _ in range(self.steps):
            moved = moved.detach().requires_grad_()
            (slope,) = torch.autograd.grad(kl(clean, state.model(moved).log_softmax(-1)).sum(), moved)
            moved = (moved.detach() + self.size * slope.sign()).clamp(x - self.epsilon, x + self.epsilon)
            if self.low is not None or self.high is not None:
                moved = moved.clamp(self.low, self.high)
        state.model.train(training)
        return moved.detach()

    def compute(self, state, batch):
        batch.z = state.model(batch.x)
        losses = state.loss(batch.z, batch.t)
        if not self.beta:
            return losses
        bounds = (-torch.inf if self.low is None else self.low, torch.inf if self.high is None else self.high)
        if state.step == 0 and not bounds[0] <= batch.x.min() <= batch.x.max() <= bounds[1]:
            raise UserError(f"learner.low and learner.high are {self.low} and {self.high}, but the inputs go from {batch.x.min():.3g} to {batch.x.max():.3g}")
        worst = state.model(self.attack(state, batch.x))
        return losses + self.beta * kl(batch.z.log_softmax(-1), worst.log_softmax(-1))


def build(beta: float = 6.0, epsilon: float = 0.031, step: float = 0.007, steps: int = 10, low: float | None = 0.0, high: float | None = 1.0):
    """loss + beta max KL(p(x) || p(x')) over x' within epsilon of x.

    Args:
        beta: >= 0; weight of robustness, 1 / lambda of the paper.
        epsilon: >= 0; largest change of an entry of the input.
        step: > 0; of the ascent.
        steps: >= 1; of the ascent, each a forward and a backward pass.
        low: smallest valid entry of an input; null for none.
        high: largest valid entry of an input; null for none.
    """
    return Trades(beta, epsilon, step, steps, low, high)
