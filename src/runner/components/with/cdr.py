"""CDR: only the parameters that matter to the loss, by |gradient times weight|, follow it; the others are left to weight decay."""

import torch

from runner import card

CARD = card(
    paper="cdr2021",
    source="Xia et al. 2021 (ICLR), Robust early-learning, section 2; authors' code xiaoboxia/CDR, main.py (one ranking of all kernels)",
    off={"rate": 0.0},
    rung={"grads": "transform"},
)


class CDR:
    def __init__(self, rate):
        self.rate = rate

    @torch.no_grad()
    def grads(self, state):
        kernels = [p for p in state.parameters() if p.dim() > 1 and p.grad is not None]
        worth = [(p * p.grad).abs() for p in kernels]
        every = torch.cat([w.flatten() for w in worth])
        critical = max(1, int((1 - self.rate) * len(every) + 1e-9))
        least = every.kthvalue(len(every) - critical + 1).values
        for p, w in zip(kernels, worth, strict=True):
            p.grad.mul_((w >= least) * (1 - self.rate))


def build(rate: float = 0.4):
    """g <- (1 - rate) g where |g w| is among the 1 - rate largest of all weights, else 0. Biases and norms keep their gradients.

    It needs an optimizer with weight decay, which shrinks the weights that are not critical.

    Args:
        rate: in [0, 1); share of the weights that are not critical: the noise rate.
    """
    return CDR(rate)
