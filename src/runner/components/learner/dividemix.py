"""DivideMix: two networks tell each other whose labels to trust, by a mixture model of their losses; the other samples are learned without labels."""

from typing import Literal

import torch

from runner import Duration, card
from runner.components._selection import only
from runner.components.learner._mixture import lower_component
from runner.components.learner._selection import TwoNetworks
from runner.components.learner._sharpening import sharpened
from runner.core.data import LoadedSplit
from runner.core.targets import soft

CARD = card(
    paper="dividemix2020",
    arxiv="2002.07394",
    source="Li et al. 2020, algorithm 1; authors' code LiJunnan1992/DivideMix, Train_cifar.py",
    tasks=("classification",),
    owns=("loss", "outputs", "network", "eval-weights"),
)


class DivideMix(TwoNetworks):
    def __init__(self, warmup, threshold, temperature, alpha, unlabelled, ramp, penalty, predictor):
        super().__init__("learner/dividemix", 0.0, "0ep", 1.0, predictor)
        self.warmup, self.threshold, self.temperature, self.alpha = warmup, threshold, temperature, alpha
        self.unlabelled, self.ramp, self.penalty = unlabelled, ramp, penalty

    def setup(self, state):
        super().setup(state)
        state.per_sample["dividemix"] = torch.ones(len(state.data.train), 2, device=state.device)  # chance of a right label, by each network

    def epoch_start(self, state):
        """Divide: a mixture of two normal distributions of each network's losses, which are scaled to [0, 1]."""
        if state.step < state.clock.steps(self.warmup):
            return
        train, nets = state.data.train, (state.model.eval(), self.peer.eval())
        with torch.no_grad():
            passes = train.batches(torch.arange(len(train)), state.eval_batch, state.device)
            losses = torch.cat([torch.stack([state.loss(net(batch.x), batch.y) for net in nets], 1) for batch in passes])
        state.model.train()
        low, high = losses.amin(0), losses.amax(0)
        chances = [lower_component(column) for column in ((losses - low) / (high - low).clamp_min(1e-12)).unbind(1)]
        state.per_sample["dividemix"] = torch.stack(chances, 1)
        state.per_sample["selected"] = (state.per_sample["dividemix"] > self.threshold).float().mean(1)

    def another(self, state, batch):
        """A second view of the inputs: another augmentation, where the data has one that acts on whole batches."""
        train = state.data.train
        if train.augment is None or isinstance(train, LoadedSplit):
            return batch.x
        return train.augment(train.fetch(batch.i).x, state.rng("learner/dividemix/views", batch.x.device))

    def compute(self, state, batch):
        start = state.clock.steps(self.warmup)
        if state.step < start:
            outputs = self.outputs(state, batch)
            return sum(state.loss(z, batch.t) - self.penalty * entropy(z) for z in outputs)
        ramp = state.clock.steps(self.ramp)
        weight = self.unlabelled * (min(1.0, (state.step - start) / ramp) if ramp else 1.0)
        nets, views = (state.model, self.peer), [batch.x, self.another(state, batch)]
        with torch.no_grad():
            outputs = [[net.eval()(x) for x in views] for net in nets]
        batch.z = outputs[0][0]
        guesses = [(a.softmax(-1) + b.softmax(-1)) / 2 for a, b in outputs]
        labels, losses = soft(batch.t, batch.z.shape[-1]), 0
        for k, net in enumerate(nets):
            trust = state.per_sample["dividemix"][batch.i, 1 - k, None]  # the other network's
            labelled = trust > self.threshold
            goal = torch.where(labelled, trust * labels + (1 - trust) * guesses[k], (guesses[0] + guesses[1]) / 2)
            losses = losses + self.mixmatch(state, net.train(), torch.cat(views), sharpened(goal, 1 / self.temperature), labelled[:, 0].float(), weight)
        return losses

    def mixmatch(self, state, net, x, goal, labelled, weight):
        """The losses (B,) on convex combinations of pairs of all views (2 B, ...): of the labels (B, C) where `labelled`, of guesses where not."""
        import numpy as np

        stream = state.rng(self.stream)
        lam = np.random.default_rng(int(torch.randint(2**62, (), generator=stream))).beta(self.alpha, self.alpha)
        lam, partner = max(lam, 1 - lam), torch.randperm(len(x), generator=stream).to(x.device)
        goal, labelled = goal.repeat(2, 1), labelled.repeat(2)
        goal = lam * goal + (1 - lam) * goal[partner]
        z = net(lam * x + (1 - lam) * x[partner])
        p = z.float().softmax(-1)
        losses = only(state.loss(z, goal), labelled) + weight * only((p - goal).square().mean(-1), 1 - labelled)
        prior = -(p.mean(0) * p.shape[-1]).log().mean()  # KL(uniform || mean prediction)
        return losses.view(2, -1).mean(0) + prior


def entropy(z):
    log_p = z.float().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def build(
    warmup: Duration = "10ep",
    threshold: float = 0.5,
    temperature: float = 0.5,
    alpha: float = 4.0,
    unlabelled: float = 25.0,
    ramp: Duration = "16ep",
    penalty: float = 0.0,
    predictor: Literal["first", "mean"] = "mean",
):
    """Each epoch every sample's chance of a right label is estimated from its loss; MixMatch with the labels that the other network trusts.

    A trusted label is blended with the network's own prediction, another replaced by the mean prediction of both networks; both are sharpened.

    Args:
        warmup: how long both networks learn from all labels.
        threshold: in [0, 1]; chance from which a label is trusted.
        temperature: > 0; of the sharpening p^(1 / T).
        alpha: > 0; the mixing is Beta(alpha, alpha).
        unlabelled: >= 0; weight of the squared error of the samples without labels (0 to 500 in the paper, more for more noise).
        ramp: time after the warm-up in which this weight grows from zero.
        penalty: >= 0; weight of the entropy that is rewarded in the warm-up (1 for asymmetric noise, 0 for symmetric).
        predictor: what is evaluated: the first network, or the mean of both networks' probabilities.
    """
    return DivideMix(warmup, threshold, temperature, alpha, unlabelled, ramp, penalty, predictor)
