"""Co-teaching+: co-teaching on those samples alone on which the two networks disagree, which keeps them from growing into one."""

from typing import Literal

import torch

from runner import Duration, card
from runner.components._selection import only, smallest
from runner.components.learner._selection import TwoNetworks

CARD = card(
    paper="coteachingplus2019",
    arxiv="1901.04215",
    source="Yu et al. 2019, algorithm 1; authors' code xingruiyu/coteaching_plus, loss.py (softmax twice there, not here) and main.py",
    tasks=("classification",),
    owns=("loss", "network"),
)


class CoTeachingPlus(TwoNetworks):
    def __init__(self, warmup, *settings):
        super().__init__("learner/co_teaching_plus", *settings)
        self.warmup = warmup

    def compute(self, state, batch):
        z, other = self.outputs(state, batch)
        losses, peers, share = state.loss(z, batch.t), state.loss(other, batch.t), self.share(state)
        differ = z.argmax(-1) != other.argmax(-1)
        if state.step < state.clock.steps(self.warmup):
            differ = torch.ones_like(differ)
        mine, its = torch.zeros_like(losses), torch.zeros_like(losses)
        if differ.any():
            mine[differ], its[differ] = smallest(losses.detach()[differ], share), smallest(peers.detach()[differ], share)
        self.note(state, batch, (mine + its) / 2)
        return only(losses, its) + only(peers, mine)


def build(forget: float = 0.2, ramp: Duration = "10ep", exponent: float = 1.0, warmup: Duration = "20ep", predictor: Literal["first", "mean"] = "first"):
    """In every batch, of the samples on which the predictions differ, each network selects its R(T) smallest losses, on which the other is trained.

    Where they agree on a whole batch nothing is learned from it. R(T) = 1 - forget min(T^exponent / T_k, 1).

    Args:
        forget: in [0, 1); share of these samples that is left out in the end: the noise rate.
        ramp: T_k, until when the share grows from zero.
        exponent: > 0; of the growth.
        warmup: how long it is plain co-teaching (20 epochs for CIFAR-10, 5 for CIFAR-100, none for MNIST in the authors' code).
        predictor: what is evaluated: the first network, or the mean of both networks' probabilities.
    """
    return CoTeachingPlus(warmup, forget, ramp, exponent, predictor)
