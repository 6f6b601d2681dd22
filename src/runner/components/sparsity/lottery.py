"""Lottery tickets: train, prune the smallest weights, take the others back to where they were early on, and again. Frankle & Carbin 2019."""

from typing import Literal

import torch

from runner import Duration, card
from runner.components.sparsity._masks import Masked
from runner.core.errors import UserError
from runner.core.phases import Phase, lengths
from runner.core.weights import matrices

CARD = card(
    paper="lottery2019",
    arxiv="1803.03635",
    source="Frankle & Carbin 2019, section 1, iterative pruning with resetting; google-research/lottery-ticket-hypothesis, foundations/pruning.py; "
    "rewinding to an early step: Frankle et al. 2020, 1912.05671",
    off={"rounds": 1},
    rung={"grads": "transform", "step_end": "mask"},
    owns=("mask", "phases"),
    uses=("network",),
)


class Lottery(Masked):
    def __init__(self, rounds, rate, rewind, round, scope):
        self.rounds, self.rate, self.rewind, self.length, self.scope = rounds, rate, rewind, round, scope
        self.early: dict[str, torch.Tensor] = {}

    def phases(self, state):
        later = [Phase(f"round {r}", self.length, self.draw_ticket, fresh=True) for r in range(2, self.rounds + 1)]
        plan = [Phase("round 1", self.length, self.keep_first), *later]
        self.moment, first = state.clock.steps(self.rewind), lengths(plan, state.clock)[0]
        if later and self.moment > first:
            raise UserError(f"sparsity.rewind={self.rewind} lies behind the first round, which has {first} steps")
        return plan

    def keep_first(self, state):
        if self.moment == 0:
            self.early = state.weights()

    def step_end(self, state):
        if self.moment and state.step + 1 == self.moment:
            self.early = state.weights()

    def draw_ticket(self, state):
        self.prune(state, (1 - self.rate) ** state.phase)
        state.load_weights(self.early, anew=True)

    @torch.no_grad()
    def prune(self, state, density):
        """Keep this share of all weights: the largest of those that are still there."""
        from runner.kernels import topk_mask

        weights = matrices(state.model)
        masks = [state.masks[name].bool() if name in state.masks else torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()]
        left = [w[mask] for w, mask in zip(weights.values(), masks, strict=True)]
        if self.scope == "global":
            kept = topk_mask(left, round(density * sum(w.numel() for w in weights.values())))
        else:
            kept = [topk_mask(some, round(density * w.numel())) for some, w in zip(left, weights.values(), strict=True)]
        for (name, w), mask, keep in zip(weights.items(), masks, kept, strict=True):
            mask[mask.clone()] = keep
            state.masks[name] = mask.to(w)


def build(rounds: int = 5, rate: float = 0.2, rewind: Duration = "0it", round: Duration | None = None, scope: Literal["layer", "global"] = "layer"):
    """After `rounds` rounds 1 - (1 - rate)^(rounds - 1) of the weights are zero: a round trains, and each but the first begins with a pruning.

    Each round has a new optimizer and its own schedule, from the schedule's start also where weights are taken back to a later step.

    Args:
        rounds: >= 1; trainings of the network; 1 prunes nothing.
        rate: in [0, 1); share of the remaining weights of linear and convolution layers that a pruning removes.
        rewind: the moment of the first round to which the remaining weights go back; 0it is the initialisation.
        round: length of a round, whatever trainer.duration says; an equal share of the run if not given.
        scope: layer (the same share of each) or global (the smallest weights of all layers together).
    """
    return Lottery(rounds, rate, rewind, round, scope)
