"""NMTune: what a network has learned from noisy labels stays; a small network on its features reshapes their spectrum for the task at hand."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from runner import Duration, card
from runner.components._features import classifier, inputs
from runner.core.phases import Phase

CARD = card(
    paper="nmtune2024",
    arxiv="2309.17002",
    source="Chen et al. 2024, equations 3 to 6; authors' code Hhhhhhao/Noisy-Model-Learning, src/models/nml_tune.py and args.py "
    "(weights 1, 0.04, 0.001; mean of the five largest shares)",
    rung={"batch": "target"},
    owns=("phases", "targets"),
    tasks=("classification",),
)


def reshaping(z, features, consistency, covariance, singular):
    """consistency MSE(z / |z|, f / |f|) + covariance (squared covariances of different features, summed, / D) - singular (mean of the five largest shares)."""
    loss = consistency * F.mse_loss(F.normalize(z, dim=1), F.normalize(features, dim=1))
    if singular:
        values = torch.linalg.svdvals(z)
        loss = loss - singular * (values / values.sum().clamp_min(1e-12))[:5].mean()
    if covariance and len(z) > 1:
        centred = z - z.mean(0)
        matrix = centred.T @ centred / (len(z) - 1)
        loss = loss + covariance * (matrix.square().sum() - matrix.diagonal().square().sum()) / z.shape[1]
    return loss


class NMTune:
    def __init__(self, method, labels, pretraining, consistency, covariance, singular):
        self.method, self.labels, self.pretraining = method, labels, pretraining
        self.weights = (consistency, covariance, singular)

    def setup(self, state):
        self.last = classifier(state.model, "learner/nmtune")
        d, n = self.last.in_features, len(state.data.train)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state.rng.derive("learner/nmtune"))
            self.head = nn.Linear(d, state.info.outputs).to(state.device)
            self.reshape = (nn.Identity() if self.method == "linear" else nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d))).to(state.device)
        rows = torch.randperm(n, generator=state.rng("learner/nmtune"))[: self.labels or n].to(state.device)
        self.known = torch.zeros(n, dtype=torch.bool, device=state.device)
        self.known[rows] = True

    def phases(self, state):
        return [Phase("pretraining", self.pretraining), Phase("tuning", None, fresh=True)]

    def features(self, state, x):
        with torch.no_grad(), inputs(self.last) as seen:
            state.model(x)
        return seen[0].flatten(1)

    def batch(self, state, batch):
        if not state.phase:
            return batch
        known, train = self.known[batch.i], state.data.train
        if not known.all():
            batch = batch.take(known if known.any() else slice(0, 1))
            if not known.any():
                batch.w = torch.zeros(1, device=batch.x.device)
        batch.t = batch.y if train.clean is None else train.clean[batch.i]
        return batch

    def compute(self, state, batch):
        if not state.phase:
            batch.z = state.model(batch.x)
            return state.loss(batch.z, batch.t)
        state.model.eval()  # the features stand still
        features = self.features(state, batch.x)
        z = self.reshape(features)
        batch.z = self.head(z)
        losses = state.loss(batch.z, batch.t)
        return losses + reshaping(z, features, *self.weights) if self.method == "nmtune" else losses

    def predict(self, state, x):
        return self.head(self.reshape(self.features(state, x))) if state.phase else state.model(x)


def build(
    method: Literal["nmtune", "mlp", "linear"] = "nmtune",
    labels: int | None = None,
    pretraining: Duration | None = None,
    consistency: float = 1.0,
    covariance: float = 0.04,
    singular: float = 0.001,
):
    """First the network learns from the labels as they are; then it stands still, and a classifier on its features learns from true labels.

    nmtune: loss + consistency MSE(z / |z|, f / |f|) + covariance (off-diagonal squares / D) - singular (mean of the five largest shares), z = MLP(f).

    Args:
        method: what the classifier is on: an MLP with these penalties, one without (mlp), or the features (linear).
        labels: >= 1; samples with true labels, of the training set; all if not given.
        pretraining: length of the training on noisy labels; half of the run if not given.
        consistency: >= 0; weight of staying near the features.
        covariance: >= 0; weight of decorrelating them.
        singular: >= 0; weight of the dominant singular values.
    """
    return NMTune(method, labels, pretraining, consistency, covariance, singular)
