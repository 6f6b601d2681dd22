"""Sparse over-parameterisation (SOP): each sample has numbers of its own that learn what is wrong with its label, so that the network need not."""

import torch

from runner import card
from runner.core.targets import soft

CARD = card(
    paper="sop2022",
    arxiv="2202.14026",
    source="Liu et al. 2022, algorithm 1; authors' code shengliu66/SOP at 5851882, model/loss.py and train.py: SGD for u and v, no schedule",
    off={"rate_u": 0.0, "rate_v": 0.0, "scale": 0.0},
    close=True,
    rung={"losses": "correct"},
    tasks=("classification",),
    uses=("loss", "outputs"),
)
FLOOR = 1e-4  # of probabilities, and how far u^2 and v^2 stay below 1


def explained(p, t, u, v):
    """The prediction of the noisy label: p + u^2 t - v^2 (1 - t), as probabilities again."""
    s = (u.square() * t).clamp(0, 1 - FLOOR) - (v.square() * (1 - t)).clamp(0, 1 - FLOOR).detach()
    q = (p + s).clamp_min(FLOOR)
    return (q / q.sum(-1, keepdim=True)).clamp_min(FLOOR)


class SOP:
    def __init__(self, rate_u, rate_v, scale):
        self.rate_u, self.rate_v, self.scale = rate_u, rate_v, scale

    def setup(self, state):
        n, classes, draw = len(state.data.train), state.info.outputs, state.rng("with/sop")
        for name, columns in (("sop/u", 1), ("sop/v", classes)):
            state.per_sample[name] = self.scale * torch.randn(n, columns, generator=draw).to(state.device)
        state.per_sample["selected"] = torch.ones(n, device=state.device)

    def losses(self, state, losses, batch):
        t = soft(batch.t, batch.z.shape[-1])
        u, v = state.per_sample["sop/u"][batch.i], state.per_sample["sop/v"][batch.i]
        corrected = state.loss(explained(batch.z.float().softmax(-1), t, u, v).log(), batch.t)
        if not state.replay:
            self.learn(state, batch, t, u, v)
        return losses - state.loss(batch.z, batch.t) + corrected  # what a learner adds to the loss stays

    def learn(self, state, batch, t, u, v):
        """A step of SGD on the batch's u, by the corrected loss, and v, by the squared error of the predicted class; both means over the batch."""
        z, n = batch.z.detach(), len(state.batch.i)
        with torch.enable_grad():
            u, v = u.clone().requires_grad_(), v.clone().requires_grad_()
            fit = state.loss(explained(z.float().softmax(-1), t, u, v).log(), batch.t).sum() / n
            guess = soft(z.argmax(-1), z.shape[-1]) + (u.detach().square() * t).clamp(0, 1 - FLOOR)
            error = (guess - (v.square() * (1 - t)).clamp(0, 1 - FLOOR) - t).square().sum() / n
            slopes = torch.autograd.grad(fit + error, (u, v))
        for name, value, slope, rate in (("sop/u", u, slopes[0], self.rate_u), ("sop/v", v, slopes[1], self.rate_v)):
            state.per_sample[name][batch.i] = value.detach() - rate * slope
        state.per_sample["selected"][batch.i] = 1 - state.per_sample["sop/u"][batch.i, 0].square().clamp(0, 1)


def build(rate_u: float = 10.0, rate_v: float = 10.0, scale: float = 1e-8):
    """loss(normalised(p + u^2 t - v^2 (1 - t)), t), where u (one number a sample) and v (one a class) start near 0 and learn at their own rates.

    From so small a start, and by a product with themselves, they grow where they are asked to again and again: u for labels that the network resists.

    Args:
        rate_u: >= 0; learning rate of u.
        rate_v: >= 0; learning rate of v.
        scale: >= 0; standard deviation of their initial values.
    """
    return SOP(rate_u, rate_v, scale)
