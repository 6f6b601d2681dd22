"""AdaWAC: each image has a weight of its own between its labels and the agreement of two augmented views of it. Dong, Xie & Ward 2023."""

import torch
from torch import nn

from runner import UserError, card

CARD = card(
    paper="adawac2023",
    arxiv="2210.01891",
    source="Dong et al. 2023, by the authors' code gail-yxie/adawac, models.py (both terms in one step of the weights, the mean of both views' losses) "
    "and run_transunet.sh (lam = rate = 2); there the views are turned and mirrored with their labels, and a Dice loss is added",
    off={"start": 1.0, "strength": 0.0},
    close=True,
    rung={"batch": "mix", "losses": "correct"},
    tasks=("segmentation",),
    cost=2,
)


def view(x, strength: float, generator):
    """Images (n, channels, H, W) with other contrast, brightness and grain; their labels stay right."""
    normal = lambda shape: torch.randn(shape, generator=generator).to(x)
    each = (len(x), 1, 1, 1)
    return x * (strength * normal(each)).exp() + strength * normal(each) + strength * normal(x.shape)


class AdaWAC:
    def __init__(self, lam, rate, start, strength):
        self.lam, self.rate, self.start, self.strength = lam, rate, start, strength
        self.features = []  # of what has passed the model in this step

    def setup(self, state):
        inner = getattr(state.model, "bottleneck", None)
        if not isinstance(inner, nn.Module):
            raise UserError("with/adawac compares what comes out of the model's `bottleneck`; this model has none, model=unet has")
        inner.register_forward_hook(lambda module, inputs, out: self.features.append(out) if module.training else None)
        odds = torch.full((len(state.data.train),), float(self.start)).logit().to(state.device)
        state.per_sample["adawac/odds"] = odds
        state.per_sample["selected"] = odds.sigmoid()

    def batch(self, state, batch):
        stream, x, self.features = state.rng("with/adawac"), batch.x, []
        batch.x, batch.extra["adawac"] = (view(x, self.strength, stream) for _ in range(2))

    def losses(self, state, losses, batch):
        mean = lambda v: v.flatten(1).mean(1)
        own = mean(state.loss(batch.z, batch.t))
        other = mean(state.loss(state.model(batch.extra["adawac"]), batch.t))
        one, two = self.features[0], self.features[-1]  # the learner's view came first; others may have called the model since
        self.features = []
        labelled, agreement = (own + other) / 2, self.lam * mean((one - two).square())
        odds, rows = state.per_sample["adawac/odds"], batch.i
        if not state.replay:
            odds[rows] += self.rate * (labelled - agreement).detach()  # mirror ascent on the simplex: weights times exp(rate * term), normalised
            state.per_sample["selected"][rows] = odds[rows].sigmoid()
        weight = odds[rows].sigmoid()
        return losses - own + weight * labelled + (1 - weight) * agreement


def build(lam: float = 2.0, rate: float = 2.0, start: float = 0.5, strength: float = 0.3):
    """w_i loss_i + (1 - w_i) lam |f(A x_i) - f(A' x_i)|^2, minimised over the network and maximised over each w_i by mirror ascent.

    f: features of the model's bottleneck, mean square over them; A: changes of contrast, brightness and grain, drawn anew for each view and step.
    `per_sample["selected"]` holds w. Weights that start at 1 stay there (labels alone, on both views), and with rate = 0 they stay what they are.

    Args:
        lam: >= 0; weight of the agreement.
        rate: >= 0; of the ascent.
        start: in (0, 1]; first weight of the labels.
        strength: >= 0; deviation of the changes.
    """
    return AdaWAC(lam, rate, start, strength)
