"""Small-loss selection: leave out the samples with the largest losses of each batch, more of them as training goes on."""

import torch

from runner import Duration, card
from runner.components._selection import forget_rate, only, smallest

CARD = card(
    arxiv="1804.06872",
    source="R(T) of Han et al. 2018, section 4, with a single network: the trick without the peer",
    off={"forget": 0.0},
    rung={"losses": "select"},
    tasks=("classification",),
)


class SmallLoss:
    def __init__(self, forget, ramp, exponent):
        self.forget, self.ramp, self.exponent = forget, ramp, exponent

    def setup(self, state):
        state.per_sample["selected"] = torch.ones(len(state.data.train), device=state.device)

    def losses(self, state, losses, batch):
        chosen = smallest(losses.detach(), 1 - forget_rate(state, self.forget, self.ramp, self.exponent))
        if not state.replay:
            state.per_sample["selected"][batch.i] = chosen.float()
        return only(losses, chosen)


def build(forget: float = 0.2, ramp: Duration = "10ep", exponent: float = 1.0):
    """The mean over the R(T) = 1 - forget min(T^exponent / T_k, 1) smallest losses of the batch.

    Args:
        forget: in [0, 1); share of samples left out in the end: the noise rate.
        ramp: T_k, until when the share grows from zero.
        exponent: > 0; of the growth.
    """
    return SmallLoss(forget, ramp, exponent)
