"""Co-teaching: two networks, each trained on the samples that the other finds easy."""

import copy
from typing import Literal

import torch

from runner import Duration, card
from runner.core.selection import forget_rate, only, smallest

CARD = card(
    paper="coteaching2018",
    arxiv="1804.06872",
    source="Han et al. 2018, algorithm 1 and R(T) of section 4; authors' code bhanML/Co-teaching, loss.py and main.py",
    tasks=("classification",),
)


@torch.no_grad()
def shuffled(model: torch.nn.Module, generator: torch.Generator) -> torch.nn.Module:
    """A copy with other initial weights: each tensor's entries in random order, so that every scheme of independent draws keeps its distribution."""
    peer = copy.deepcopy(model)
    for p in peer.parameters():
        p.copy_(p.flatten()[torch.randperm(p.numel(), generator=generator).to(p.device)].view_as(p))
    return peer


class CoTeaching:
    def __init__(self, forget, ramp, exponent, predictor):
        self.forget, self.ramp, self.exponent, self.predictor = forget, ramp, exponent, predictor

    def setup(self, state):
        self.peer = shuffled(state.model, state.rng("learner/co_teaching"))
        state.per_sample["selected"] = torch.ones(len(state.data.train), device=state.device)

    def compute(self, state, batch):
        self.peer.train(state.model.training)
        batch.z, z = state.model(batch.x), self.peer(batch.x)
        losses, peers = state.loss(batch.z, batch.t), state.loss(z, batch.t)
        keep = 1 - forget_rate(state, self.forget, self.ramp, self.exponent)
        mine, its = smallest(losses.detach(), keep), smallest(peers.detach(), keep)
        if not state.replay:
            state.per_sample["selected"][batch.i] = ((mine + its) / 2).float()
        return only(losses, its) + only(peers, mine)

    def predict(self, state, x):
        if self.predictor == "first":
            return state.model(x)
        self.peer.train(state.model.training)
        return ((state.model(x).softmax(-1) + self.peer(x).softmax(-1)) / 2).clamp_min(1e-30).log()


def build(forget: float = 0.2, ramp: Duration = "10ep", exponent: float = 1.0, predictor: Literal["first", "mean"] = "first"):
    """In every batch each network selects its R(T) = 1 - forget min(T^exponent / T_k, 1) smallest losses, on which the other is trained.

    Args:
        forget: in [0, 1); share of samples left out in the end: the noise rate.
        ramp: T_k, until when the share grows from zero.
        exponent: > 0; of the growth.
        predictor: what is evaluated: the first network, or the mean of both networks' probabilities.
    """
    return CoTeaching(forget, ramp, exponent, predictor)
