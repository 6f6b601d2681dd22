"""Co-teaching: two networks, each trained on the samples that the other finds easy."""

from typing import Literal

from runner import Duration, card
from runner.components._selection import only, smallest
from runner.components.learner._selection import TwoNetworks

CARD = card(
    paper="coteaching2018",
    arxiv="1804.06872",
    source="Han et al. 2018, algorithm 1 and R(T) of section 4; authors' code bhanML/Co-teaching, loss.py and main.py",
    tasks=("classification",),
    owns=("loss", "network"),
)


class CoTeaching(TwoNetworks):
    def compute(self, state, batch):
        z, other = self.outputs(state, batch)
        losses, peers, share = state.loss(z, batch.t), state.loss(other, batch.t), self.share(state)
        mine, its = smallest(losses.detach(), share), smallest(peers.detach(), share)
        self.note(state, batch, (mine + its) / 2)
        return only(losses, its) + only(peers, mine)


def build(forget: float = 0.2, ramp: Duration = "10ep", exponent: float = 1.0, predictor: Literal["first", "mean"] = "first"):
    """In every batch each network selects its R(T) = 1 - forget min(T^exponent / T_k, 1) smallest losses, on which the other is trained.

    Args:
        forget: in [0, 1); share of samples left out in the end: the noise rate.
        ramp: T_k, until when the share grows from zero.
        exponent: > 0; of the growth.
        predictor: what is evaluated: the first network, or the mean of both networks' probabilities.
    """
    return CoTeaching("learner/co_teaching", forget, ramp, exponent, predictor)
