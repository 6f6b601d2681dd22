"""JoCoR: two networks that are trained to agree, on the samples whose losses and disagreement are small together."""

from typing import Literal

from runner import Duration, card
from runner.components._selection import only, smallest
from runner.components.learner._selection import TwoNetworks

CARD = card(
    paper="jocor2020",
    arxiv="2003.02752",
    source="Wei et al. 2020, equations 1 to 4; authors' code hongxin001/JoCoR, algorithm/loss.py and README.md (weight 0.9 for CIFAR-10, 0.85 for CIFAR-100)",
    tasks=("classification",),
    owns=("loss", "network"),
)


class JoCoR(TwoNetworks):
    def __init__(self, weight, *settings):
        super().__init__("learner/jocor", *settings)
        self.weight = weight

    def compute(self, state, batch):
        z, other = self.outputs(state, batch)
        log_p, log_q = z.float().log_softmax(-1), other.float().log_softmax(-1)
        disagreement = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1)  # KL(p || q) + KL(q || p)
        losses = (1 - self.weight) * (state.loss(z, batch.t) + state.loss(other, batch.t)) + self.weight * disagreement
        selected = smallest(losses.detach(), self.share(state))
        self.note(state, batch, selected)
        return only(losses, selected)


def build(weight: float = 0.9, forget: float = 0.2, ramp: Duration = "10ep", exponent: float = 1.0, predictor: Literal["first", "mean"] = "first"):
    """l = (1 - weight) (loss_1 + loss_2) + weight (KL(p_1 || p_2) + KL(p_2 || p_1)), over the R(T) smallest of the batch; both networks learn from it.

    R(T) = 1 - forget min(T^exponent / T_k, 1).

    Args:
        weight: in [0, 1]; of the agreement (0.5 to 0.9 in general).
        forget: in [0, 1); share of samples left out in the end: the noise rate.
        ramp: T_k, until when the share grows from zero.
        exponent: > 0; of the growth.
        predictor: what is evaluated: the first network, or the mean of both networks' probabilities.
    """
    return JoCoR(weight, forget, ramp, exponent, predictor)
