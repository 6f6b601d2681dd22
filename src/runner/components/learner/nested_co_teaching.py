"""Nested co-teaching: two networks whose features nested dropout orders are trained alone at first, then each on what the other finds easy."""

from typing import Literal

import torch
from torch.nn import functional as F

from runner import Duration, UserError, card
from runner.components._features import classifier, inputs
from runner.components._selection import only, smallest
from runner.components.learner._selection import TwoNetworks

CARD = card(
    paper="nestedcoteaching2021",
    arxiv="2104.13766",
    source="Chen et al. 2021; authors' code yingyichen-cyy/Nested-Co-teaching, nested/train_resnet.py, co_teaching_resnet/loss.py, train.py and run_cifar.sh: "
    "one k a batch for both networks, losses for the selection from the features that evaluations use, the full forget rate at once",
    rung={"batch": "mix"},
    tasks=("classification",),
    owns=("loss", "network", "eval-weights"),
)
NAME = "learner/nested_co_teaching"


def features(net, x):
    """What the classifier is given."""
    with inputs(classifier(net, NAME)) as seen:
        net(x)
    return seen[0]


def logits(net, features, k):
    """Those of the first k features alone."""
    last = classifier(net, NAME)
    return F.linear(features[:, :k], last.weight[:, :k], last.bias)


class NestedCoTeaching(TwoNetworks):
    def __init__(self, sigma, units, pretraining, forget, predictor):
        super().__init__(NAME, forget, "0ep", 1.0, predictor)
        self.sigma, self.units, self.pretraining = sigma, units, pretraining

    def setup(self, state):
        super().setup(state)
        last = classifier(state.model, NAME)
        self.drawn = self.used = d = last.in_features
        if self.units is not None:
            if self.units > d:
                raise UserError(f"learner.units={self.units} is more than the {d} features of the model")
            self.used = self.units
        self.chances = torch.exp(-((torch.arange(1, d + 1) / self.sigma) ** 2)) if self.sigma else None
        if self.sigma:
            self.chances[0].clamp_min_(torch.finfo().tiny)  # with a small sigma all are 0 in float32: k is 1

    def share(self, state):
        return 1.0 if state.step < state.clock.steps(self.pretraining) else super().share(state)

    def batch(self, state, batch):
        if self.chances is not None:
            self.drawn = 1 + int(torch.multinomial(self.chances, 1, generator=state.rng(self.stream)))

    def compute(self, state, batch):
        self.peer.train(state.model.training)
        nets, share = (state.model, self.peer), self.share(state)
        found = [features(net, batch.x) for net in nets]
        z, other = (logits(net, f, self.drawn) for net, f in zip(nets, found, strict=True))
        with torch.no_grad():
            mine, its = (smallest(state.loss(logits(net, f, self.used), batch.t), share) for net, f in zip(nets, found, strict=True))
        self.note(state, batch, (mine + its) / 2)
        batch.z = z
        return only(state.loss(z, batch.t), its) + only(state.loss(other, batch.t), mine)

    def predict(self, state, x):
        self.peer.train(state.model.training)
        z = logits(state.model, features(state.model, x), self.used)
        return z if self.predictor == "first" else (z + logits(self.peer, features(self.peer, x), self.used)) / 2


def build(sigma: float = 10.0, units: int | None = None, pretraining: Duration = "30ep", forget: float = 0.2, predictor: Literal["first", "mean"] = "mean"):
    """Trained on the first k of d features, k with chance proportional to exp(-(k / sigma)^2); after `pretraining`, on the other's 1 - forget smallest losses.

    Args:
        sigma: >= 0; width of the distribution of k; 0 drops nothing.
        units: >= 1; features that selection and evaluations use; all if not given.
        pretraining: how long both networks learn from all samples.
        forget: in [0, 1); share of samples left out after it: the noise rate.
        predictor: what is evaluated: the first network, or the mean of both networks' logits.
    """
    return NestedCoTeaching(sigma, units, pretraining, forget, predictor)
