"""PLS-LSA: wrong labels are detected in turn by a hyperplane in contrastive features and by large losses, and replaced by trusted guesses."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from runner import Duration, UserError, card
from runner.components._features import classifier, inputs
from runner.components._selection import only
from runner.components.learner._contrast import another_view, classmates, hyperplane, mixing, pairs, scaled
from runner.components.learner._mixture import lower_component
from runner.components.learner._sharpening import sharpened
from runner.core.phases import Phase
from runner.core.targets import soft

CARD = card(
    paper="lsa2024",
    arxiv="2407.05528",
    source="Albert et al. 2024, PLS-LSA; authors' code PaulAlbert31/LSA, trainers.py; the contrastive start as Chen et al. 2020 (2002.05709), equation 1",
    off={"pretraining": "0it", "warmup": "1000ep", "alpha": 0.0},
    owns=("phases", "loss", "outputs"),
    tasks=("classification",),
    images=True,
)
VIEWS, WIDTH = "learner/pls/views", 128  # WIDTH: outputs of the linear layer for the contrastive losses, as the authors have it


class Pls:
    def __init__(self, detect, pretraining, warmup, threshold, gamma, temperature, alpha, balance, shift, layer):
        self.detectors = ["linear", "loss"] if detect == "alternate" else [detect]
        self.pretraining, self.warmup, self.threshold, self.gamma, self.temperature = pretraining, warmup, threshold, gamma, temperature
        self.alpha, self.balance, self.shift, self.layer, self.start, self.rounds = alpha, balance, shift, layer, 0, 0

    def setup(self, state):
        modules, train = dict(state.model.named_modules()), state.data.train
        self.last = classifier(state.model, "learner/pls")
        if self.layer not in modules:
            raise UserError(f"learner/pls: the model has no module {self.layer}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state.rng.derive("learner/pls", "head"))
            self.head = nn.Linear(self.last.in_features, WIDTH).to(state.device)
        for name, value in {"selected": 1.0, "outlier": 0.0, "trust": 1.0}.items():
            state.per_sample[name] = torch.full((len(train),), value, device=state.device)
        state.per_sample["guess"] = soft(train.y, state.info.outputs)

    def phases(self, state):
        return [Phase("contrast", self.pretraining), Phase("pls", None, lambda state: setattr(self, "start", state.step), fresh=True)]

    def outputs(self, state, x):
        """Of the model and of the head of the contrastive losses."""
        with inputs(self.last) as seen:
            z = state.model(x)
        return z, self.head(seen[0])

    @torch.no_grad()
    def observe(self, state):
        """Intermediate features (n, D), losses of the labels and of the last guesses (n,) of all training samples."""
        train, seen, losses = state.data.train, [], []
        module = dict(state.model.named_modules())[self.layer] if self.layer else self.last
        take = (lambda m, i, o: seen.append(o)) if self.layer else (lambda m, i, o: seen.append(i[0]))
        handle, training = module.register_forward_hook(take), state.model.training
        state.model.eval()
        for batch in train.batches(torch.arange(len(train)), state.eval_batch, state.device):
            z = state.model(batch.x).float()
            losses.append(torch.stack([F.cross_entropy(z, t, reduction="none") for t in (batch.y, state.per_sample["guess"][batch.i])]))
            seen[-1] = F.normalize(seen[-1].float().flatten(2).mean(2) if seen[-1].dim() > 2 else seen[-1].float())
        handle.remove()
        state.model.train(training)
        return torch.cat(seen), *torch.cat(losses, 1)

    def epoch_start(self, state):
        """Detect; what is clean keeps its label, another's guess counts as much as it is likely to be of those with small losses."""
        if not state.phase or state.step - self.start < state.clock.steps(self.warmup):
            return
        features, losses, pseudo = self.observe(state)
        outlier = 1 - lower_component(scaled(losses))
        noisy = outlier > self.threshold
        if self.detectors[self.rounds % len(self.detectors)] == "linear":
            outlier = hyperplane(features, noisy)
            noisy = outlier > 0.5
        self.rounds += 1
        trust = torch.ones_like(outlier)
        if noisy.sum() > 2:
            trust[noisy] = lower_component(scaled(pseudo[noisy]))
        state.per_sample.update(outlier=outlier, selected=(~noisy).float(), trust=trust)

    def compute(self, state, batch):
        if not state.phase:
            z, one = self.outputs(state, batch.x)
            batch.z = z.detach()
            return pairs(one, self.outputs(state, another_view(state, batch, self.shift, VIEWS))[1], self.temperature)
        left, t, trust = state.clock.steps(self.warmup) - (state.step - self.start), batch.t, torch.ones(len(batch.i), device=batch.x.device)
        if left <= state.clock.epoch:  # the warm-up's last guesses are the first to be judged
            guess = self.guess(state, batch)
        if left <= 0:
            clean, trust = state.per_sample["selected"][batch.i, None] > 0, state.per_sample["trust"][batch.i]
            t = torch.where(clean, soft(t, guess.shape[1]), guess)
        lam, partner = mixing(self.alpha, len(batch.i), state.rng("learner/pls"))
        mix = lambda of: lam * of(slice(None)) + (1 - lam) * of(partner)
        batch.z, one = self.outputs(state, mix(lambda rows: batch.x[rows]))
        losses = mix(lambda rows: only(state.loss(batch.z, t[rows]), trust[rows]))
        if left > 0:
            return losses
        other, c = self.outputs(state, another_view(state, batch, self.shift, VIEWS))[1], t.argmax(1)
        same = (c[:, None] == c).float()
        same = same / same.sum(1, keepdim=True)
        losses = losses + mix(lambda rows: classmates(one, other, same[rows], self.temperature))
        share = batch.z.float().softmax(-1).mean(0) * batch.z.shape[-1]
        return losses - self.balance * share.log().mean() if self.balance else losses  # a class may have no chance at all

    @torch.no_grad()
    def guess(self, state, batch):
        """The sharpened prediction (B, C) for another view."""
        p = sharpened(state.model(another_view(state, batch, self.shift, VIEWS)).float().softmax(-1), self.gamma)
        if not state.replay:
            state.per_sample["guess"][batch.i] = p
        return p


def build(
    detect: Literal["alternate", "linear", "loss"] = "alternate",
    pretraining: Duration | None = None,
    warmup: Duration = "1ep",
    threshold: float = 0.95,
    gamma: float = 2.0,
    temperature: float = 0.2,
    alpha: float = 1.0,
    balance: float = 0.0,
    shift: int = 0,
    layer: str = "",
):
    """After a start without labels, each epoch those samples that a detector calls noisy get the sharpened prediction for another view as their target.

    These count by a mixture of their losses; the loss is mixup cross entropy and a contrastive one, where samples of the same target attract each other.

    Args:
        detect: by a mixture of the losses, by a hyperplane fitted to what that finds, or in turn, the hyperplane first.
        pretraining: how long the network learns to tell views of the same image from others; half of the run if not given.
        warmup: how long all labels are learned after that.
        threshold: in [0, 1]; chance of the large losses from which a label counts as wrong.
        gamma: > 0; of the sharpening p^gamma.
        temperature: > 0; of the contrastive losses.
        alpha: >= 0; the mixing is Beta(alpha, alpha).
        balance: >= 0; weight of the divergence of the mean prediction from equal classes (1 on Webvision).
        shift: >= 0; views of data without augmentation are shifted by up to so many pixels.
        layer: name of the module whose outputs, averaged over places, the hyperplane divides; the inputs of the last linear layer if not given.
    """
    return Pls(detect, pretraining, warmup, threshold, gamma, temperature, alpha, balance, shift, layer)
