"""TABASCO: choose the samples whose labels to trust class by class, by two measures at once, since rare classes look as wrong labels do."""

from typing import Literal

import torch
from torch.nn import functional as F

from runner import Duration, card
from runner.components._features import classifier, inputs
from runner.components._selection import only
from runner.components.learner._mixture import lower_component

CARD = card(
    paper="tabasco2023",
    arxiv="2208.09833",
    source="Lu et al. 2023, section 3; authors' code Wakings/TABASCO, experiment/train_cifar_ssl_acceleration.py",
    off={"warmup": "1000ep"},
    tasks=("classification",),
    owns=("loss",),
)


def wjsd(p, y, mean):
    """w JSD(one-hot label, p) (n,), with w = max p / p_y, at most max / own entry of `mean` (C, C), the mean prediction of each labelled class."""
    own, q = p.gather(1, y[:, None])[:, 0], F.one_hot(y, p.shape[1])
    m = (p + q) / 2
    divergence = [(a * ((a + 1e-10) / (m + 1e-10)).log()).sum(1) / 2 for a in (p, q)]
    return torch.minimum(p.amax(1) / own, (mean.amax(1) / mean.diagonal())[y]) * sum(divergence)


def class_means(values, y, classes):
    """Of the rows (n, D) of each class, zero where a class has none (C, D)."""
    members = F.one_hot(y, classes).to(values.dtype)
    return members.T @ values / members.sum(0).clamp_min(1)[:, None]


def centroids(p, features, y, mean):
    """Of each labelled class the mean direction of its confident samples, and their number: those predicted to be what the class mostly is."""
    n, main = torch.arange(len(y), device=y.device), mean.argmax(1)[y]
    raised = p.clone()
    raised[n, main] *= (p[n, main] / mean.amax(1)[y]).clamp_min(1)
    bar = class_means(raised, y, p.shape[1])
    main = bar.argmax(1)[y]
    confident = (p.argmax(1) == main) & (p[n, main] > bar[y, main])
    return class_means(features[confident], y[confident], p.shape[1]), y[confident].bincount(minlength=p.shape[1])


def is_lower(value, x, lower):
    """Whether the mixture with these chances (n,) of the lower component puts a value there."""
    scores = []
    for r in (lower, 1 - lower):
        total = r.sum() + 1e-15
        centre = (r * x).sum() / total
        variance = (r * (x - centre) ** 2).sum() / total + 5e-4
        scores.append(total.log() - 0.5 * ((value - centre) ** 2 / variance + variance.log()))
    return bool(scores[0] >= scores[1])


def scaled(x):
    return (x - x.min()) / (x.max() - x.min()).clamp_min(1e-12)


def choose(divergence, cosine, merged: bool):
    """Which samples (n,) of one labelled class to trust. `merged`: its centroid is that of a larger class, so that far from it is right."""
    divergence, cosine = scaled(divergence), scaled(cosine)
    lower, far = lower_component(divergence, 30), lower_component(cosine, 30) > 0.5
    spread, places = {True: divergence.new_ones(()), False: divergence.new_ones(())}, []
    for group in (far, ~far):
        if not group.any():
            return lower > 0.5
        places.append(is_lower(divergence[group].mean(), divergence, lower))
        spread[places[-1]] = divergence[group].std(correction=0)
    if not any(places) or spread[False] < 0.65 * spread[True]:  # the cosine does not separate
        return lower > 0.5
    return far if merged else ~far


class Tabasco:
    def __init__(self, warmup, rule):
        self.warmup, self.rule = warmup, rule

    def setup(self, state):
        self.last = classifier(state.model, "learner/tabasco")
        state.per_sample["selected"] = torch.ones(len(state.data.train), device=state.device)

    @torch.no_grad()
    def outputs(self, state):
        """Features and outputs of all training samples."""
        train, z = state.data.train, []
        state.model.eval()
        with inputs(self.last) as seen:
            for batch in train.batches(torch.arange(len(train)), state.eval_batch, state.device):
                z.append(state.model(batch.x).float())
        state.model.train()
        return torch.cat(seen).float().flatten(1), torch.cat(z)

    def epoch_start(self, state):
        if state.step < state.clock.steps(self.warmup):
            return
        (features, z), y, classes = self.outputs(state), state.data.train.y, state.info.outputs
        if self.rule == "small_loss":
            state.per_sample["selected"] = (lower_component(scaled(state.loss(z, y)), 30) > 0.5).float()
            return
        p = z.softmax(1).clamp_min(1e-12)
        mean = class_means(p, y, classes)
        divergence, features = wjsd(p, y, mean), F.normalize(features - features.mean(0))
        centres, sizes = centroids(p, features, y, mean)
        cosine, near = (features * centres[y]).sum(1), (centres @ centres.T).softmax(1)
        selected = torch.zeros(len(y), device=state.device)
        for c in y.unique().tolist():
            rows = (y == c).nonzero()[:, 0]
            if self.rule == "wjsd":
                selected[rows] = (lower_component(scaled(divergence[rows]), 30) > 0.5).float()
                continue
            others = near[c].clone()
            others[c] = 0
            merged = abs(near[c, c] - others.max()) < 0.1 * near[c, c] and sizes[c] < sizes[others.argmax()]
            selected[rows] = choose(divergence[rows], cosine[rows], bool(merged)).float()
        state.per_sample["selected"] = selected

    def compute(self, state, batch):
        batch.z = state.model(batch.x)
        losses = state.loss(batch.z, batch.t)
        if state.step < state.clock.steps(self.warmup):
            return losses
        return only(losses, state.per_sample["selected"][batch.i])


def build(warmup: Duration = "10ep", rule: Literal["tabasco", "wjsd", "small_loss"] = "tabasco"):
    """Each epoch after the warm-up, of every labelled class the samples are trusted that one of two mixtures of two normal distributions calls right.

    One is of a weighted Jensen-Shannon divergence of label and prediction, the other of the cosine to a centroid of confident samples.

    Args:
        warmup: how long all samples are used.
        rule: tabasco, wjsd for the divergence alone, or small_loss for one mixture of the losses of all classes, as in DivideMix.
    """
    return Tabasco(warmup, rule)
