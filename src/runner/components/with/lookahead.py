"""Lookahead: slow weights go a part of the way that the optimizer's fast weights went in k steps; they are what is evaluated."""

import torch

from runner import card

CARD = card(
    paper="lookahead2019", arxiv="1907.08610", source="Zhang et al. 2019, algorithm 1: k = 5, alpha = 0.8 for CIFAR, 0.5 in general",
    off={"alpha": 1.0, "k": 1}, rung={"step": "average"}, owns=("eval-weights",),
)  # fmt: skip


class Lookahead:
    def __init__(self, k, alpha):
        self.k, self.alpha = k, alpha
        self.slow, self.fast, self.count = [], [], 0
        self.restarts = 0  # of the training

    def step(self, state, grads, apply):
        @torch.no_grad()
        def ahead():
            weights = state.parameters()
            if not self.slow or self.restarts != state.restarts:
                self.count, self.restarts = 0, state.restarts
                self.slow = [w.detach().clone() for w in weights]
            apply()
            self.count += 1
            if self.count % self.k == 0:
                torch._foreach_lerp_(self.slow, [w.detach() for w in weights], self.alpha)
                torch._foreach_copy_(weights, self.slow)

        return grads, ahead

    @torch.no_grad()
    def eval_enter(self, state):
        if self.slow and self.restarts == state.restarts:
            weights = state.parameters()
            self.fast = [w.detach().clone() for w in weights]
            torch._foreach_copy_(weights, self.slow)

    @torch.no_grad()
    def eval_exit(self, state):
        if self.fast:
            torch._foreach_copy_(state.parameters(), self.fast)
            self.fast = []


def build(k: int = 5, alpha: float = 0.5):
    """slow <- slow + alpha (fast - slow) after every k steps of the optimizer, which goes on from there; its momentum stays.

    Args:
        k: >= 1; steps of the fast weights.
        alpha: in (0, 1]; part of the way; with 1 and k = 1 it trains as without it.
    """
    return Lookahead(k, alpha)
