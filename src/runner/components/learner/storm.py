"""STORM: a small network rescales each sample's loss by what the model says of it, and learns to from the noisy training samples themselves."""

from typing import Literal

import torch
from torch import nn
from torch.func import functional_call

from runner import card
from runner.components.learner._weighing import Weighing, moved, tensors
from runner.core.targets import expected

CARD = card(
    paper="storm2025",
    arxiv="2412.12955",
    source="Heck et al. 2025, algorithm 1: rescaled losses, also of the batch for validation, through which the rescaler has a direct and a meta gradient; "
    "its features, network and normalisation are this project's",
    rung={"step": "own"},
    tasks=("classification",),
    owns=("loss",),
)


def features(z, t, losses):
    """What the model says of each sample (B, 4): its loss, the probability of its label, the largest probability, the entropy; not differentiable."""
    p = z.detach().float().softmax(-1)
    entropy = -(p * p.clamp_min(1e-12).log()).sum(-1)
    return torch.stack([losses.detach().float(), expected(p, t), p.amax(-1), entropy], -1)


def gradient(state, storm, batch, other, lr: float) -> tuple:
    """Of the rescaled loss on `other`, after a virtual step of the model with the rescaled losses of `batch`, with respect to the rescaler."""
    trained, buffers = tensors(state.model)
    if storm.path != "direct":
        z = functional_call(state.model, (trained, buffers), (batch.x,))
        losses = state.loss(z, batch.t)
        trained = moved(trained, (storm.weights(z, batch.t, losses) * losses).mean(), lr, state.masks)
    z = functional_call(state.model, (trained, buffers), (other.x,))
    losses = state.loss(z, other.y)
    weights = storm.weights(z, other.y, losses)
    mean = ((weights.detach() if storm.path == "meta" else weights) * losses).mean()
    return torch.autograd.grad(mean, list(storm.network.parameters()))


class Storm(Weighing):
    def __init__(self, width, lr, weight_decay, size, path):
        self.width, self.lr, self.weight_decay, self.size, self.path = width, lr, weight_decay, size, path

    def setup(self, state):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state.rng.derive("learner/storm", "network"))
            network = nn.Sequential(nn.Linear(4, self.width), nn.ReLU(), nn.Linear(self.width, 1))
        nn.init.zeros_(network[-1].weight)  # equal weights at first
        nn.init.zeros_(network[-1].bias)
        self.begin(state, network, self.lr, self.weight_decay)

    def weights(self, z, t, losses):
        """Positive, with mean 1 over the batch."""
        return len(losses) * self.network(features(z, t, losses)).squeeze(-1).float().softmax(-1)

    def learn(self, state):
        """One step of the rescaler: what would a step of the model with its weights do to the rescaled loss on another batch?"""
        train, batch = state.data.train, state.batch
        rows = torch.randperm(len(train), generator=state.rng("learner/storm"))[: self.size]
        self.descend(gradient(state, self, batch, train.fetch(rows), state.optimizer.param_groups[0]["lr"]))

    def compute(self, state, batch):
        batch.z = state.model(batch.x)
        losses = state.loss(batch.z, batch.t)
        with torch.no_grad():
            weights = self.weights(batch.z, batch.t, losses)
        if not state.replay:
            state.per_sample["selected"][batch.i] = weights.clamp(max=1)
        return weights * losses


def build(width: int = 32, lr: float = 1e-3, weight_decay: float = 1e-4, batch: int = 64, path: Literal["both", "meta", "direct"] = "both"):
    """mean w_i l_i with w = B softmax of a small network over a batch, which sees loss, p_y, the largest probability and the entropy of each sample.

    It descends the loss, rescaled by itself, of another batch of the noisy training set after a step of the model with its weights.

    Args:
        width: >= 1; hidden units of the network.
        lr: > 0; learning rate of its Adam.
        weight_decay: >= 0; of it.
        batch: >= 1; training samples in a step of it.
        path: how its gradient reaches it: through the model's step (meta), through the weights of the other batch (direct), or both.
    """
    return Storm(width, lr, weight_decay, batch, path)
