"""ELR+: early-learning regularisation of two networks on mixed samples, each held to the running predictions of the other's averaged weights."""

import math
from typing import Literal

import torch
from torch.func import functional_call

from runner import Duration, card
from runner.components.learner._selection import TwoNetworks
from runner.core.targets import soft

CARD = card(
    paper="elr2020",
    arxiv="2007.00151",
    source="Liu et al. 2020, section 5 and appendix; authors' code shengliu66/ELR, ELR_plus/trainer/trainer.py, model/loss.py and config_cifar10.json "
    "(averages there in training mode; for CIFAR-100 labels times targets)",
    rung={"step_end": "average"},
    tasks=("classification",),
    owns=("loss", "outputs", "network", "eval-weights"),
)


def rise(step: int, length: int) -> float:
    """exp(-5 (1 - step / length)^2), at most 1."""
    return math.exp(-5 * (1 - min(1.0, step / length)) ** 2) if length else 1.0


class ELRPlus(TwoNetworks):
    def __init__(self, lam, beta, alpha, decay, rise_lam, rise_decay, predictor):
        super().__init__("learner/elr_plus", 0.0, "0ep", 1.0, predictor)
        self.lam, self.beta, self.alpha, self.decay, self.rise_lam, self.rise_decay = lam, beta, alpha, decay, rise_lam, rise_decay

    def setup(self, state):
        super().setup(state)
        del state.per_sample["selected"]  # nothing is
        state.per_sample["elr_plus"] = torch.zeros(len(state.data.train), 2, state.info.outputs, device=state.device)
        self.averages = [{name: value.clone() for name, value in net.state_dict().items()} for net in (state.model, self.peer)]

    def mixing(self, state, size):
        """Share of a sample in its mixture and the partners (B,) of the samples."""
        import numpy as np

        stream = state.rng(self.stream)
        seed, partner = int(torch.randint(2**62, (), generator=stream)), torch.randperm(size, generator=stream).to(state.device)
        share = np.random.default_rng(seed).beta(self.alpha, self.alpha) if self.alpha else 1.0
        return max(share, 1 - share), partner

    def compute(self, state, batch):
        nets, training = (state.model, self.peer), state.model.training
        with torch.no_grad():
            guesses = [functional_call(net.eval(), average, (batch.x,)) for net, average in zip(nets, self.averages, strict=True)]
        batch.z = guesses[0]
        labels, strength, losses = soft(batch.t, batch.z.shape[-1]), self.lam * rise(state.step + 1, state.clock.steps(self.rise_lam)), 0
        for k, net in enumerate(nets):
            targets = state.per_sample["elr_plus"]
            if not state.replay:
                targets[batch.i, k] = self.beta * targets[batch.i, k] + (1 - self.beta) * guesses[1 - k].float().softmax(-1)
            share, partner = self.mixing(state, len(batch.i))
            mix = lambda v, share=share, partner=partner: share * v + (1 - share) * v[partner]
            z = net.train(training)(mix(batch.x))
            p = z.float().softmax(-1).clamp(1e-4, 1 - 1e-4)
            losses = losses + state.loss(z, mix(labels)) + strength * torch.log(1 - (mix(targets[batch.i, k]) * p).sum(-1))
        return losses

    @torch.no_grad()
    def step_end(self, state):
        decay = self.decay * rise(state.step + 2, state.clock.steps(self.rise_decay))
        for net, average in zip((state.model, self.peer), self.averages, strict=True):
            trained = dict(net.named_parameters())
            for name, value in net.state_dict().items():
                average[name].lerp_(value, 1 - decay) if name in trained else average[name].copy_(value)
        for name, mask in state.masks.items():
            self.averages[0][name] *= mask


def build(
    lam: float = 3.0,
    beta: float = 0.7,
    alpha: float = 1.0,
    decay: float = 0.997,
    rise_lam: Duration = "0ep",
    rise_decay: Duration = "100ep",
    predictor: Literal["first", "mean"] = "mean",
):
    """loss(z, t) + lam log(1 - <p, q>) on mixed samples, where q mixes targets q_i <- beta q_i + (1 - beta) p_i of the other network's averaged weights.

    Args:
        lam: >= 0; strength (3 for CIFAR-10, 7 for CIFAR-100).
        beta: in [0, 1); memory of the targets (0.7 for CIFAR-10, 0.9 for CIFAR-100).
        alpha: >= 0; samples are mixed with shares max(l, 1 - l), l ~ Beta(alpha, alpha); 0 does not mix.
        decay: in [0, 1); memory of the averaged weights.
        rise_lam: time in which lam rises to its value, as exp(-5 (1 - t)^2) (none for CIFAR-10, 40,000 steps for CIFAR-100).
        rise_decay: time in which decay does (40,000 steps in the authors' code).
        predictor: what is evaluated: the first network, or the mean of both networks' probabilities.
    """
    return ELRPlus(lam, beta, alpha, decay, rise_lam, rise_decay, predictor)
