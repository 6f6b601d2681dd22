"""RDCR: a part of the features tells by how much an image was turned, a label that is always right; the other must give the same class however it was."""

import math

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from runner import Duration, UserError, card
from runner.components._features import classifier, inputs

CARD = card(
    paper="rdcr2019",
    arxiv="1905.13305",
    source="Tsai et al. 2019, abstract: consistency of a mean teacher with the rotation task; how features are split and what is consistent is this project's, "
    "after Feng et al. 2019 (rotation feature decoupling); teacher and ramp: Tarvainen & Valpola 2017 (1703.01780)",
    off={"rotation": 0.0, "consistency": 0.0, "share": 0.0, "decay": 0.0},
    rung={"step_end": "average"},
    tasks=("classification",),
    images=True,
    owns=("eval-weights",),
)


class RDCR:
    def __init__(self, rotation, consistency, share, decay, ramp):
        self.rotation, self.consistency, self.share, self.decay, self.ramp = rotation, consistency, share, decay, ramp
        self.teacher: dict[str, torch.Tensor] = {}
        self.restarts = self.begun = 0  # of the training, and the step at which the teacher began

    def setup(self, state):
        last = classifier(state.model, "learner/rdcr")
        if state.info.shape[-1] != state.info.shape[-2]:
            raise UserError(f"learner/rdcr turns square images; the data has {state.info.shape[-2]}x{state.info.shape[-1]}")
        self.cut = int(self.share * last.in_features)  # features of the turn; the others are those of the class
        if self.rotation:
            if not self.cut:
                raise UserError(f"learner.share={self.share} leaves none of the {last.in_features} features to the rotation")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(state.rng.derive("learner/rdcr"))
                self.turn = nn.Linear(self.cut, 4).to(state.device)

    def read(self, state, x, weights=None):
        """Features of the turn (B, cut) and class outputs (B, C), by the model or by other weights of it."""
        last, head = classifier(state.model, "learner/rdcr"), []
        look = lambda layer, given: head.append((layer.weight, layer.bias))  # as the layer has them in this call, also where it computes them
        with inputs(last) as seen, last.register_forward_pre_hook(look):
            state.model(x) if weights is None else functional_call(state.model, weights, (x,))
        matrix, bias = head[0]
        return seen[0][:, : self.cut], F.linear(seen[0][:, self.cut :], matrix[:, self.cut :], bias)

    def compute(self, state, batch):
        if not self.teacher or self.restarts != state.restarts:
            self.teacher, self.restarts, self.begun = state.weights(), state.restarts, state.step
        turns = 4 if self.rotation or self.consistency else 1
        turned, z = self.read(state, torch.cat([batch.x.rot90(k, (-2, -1)) for k in range(turns)]))
        batch.z = z[: len(batch.i)]
        losses = state.loss(batch.z, batch.t)
        if self.rotation:
            angle = torch.arange(4, device=z.device).repeat_interleave(len(batch.i))
            losses = losses + self.rotation * F.cross_entropy(self.turn(turned), angle, reduction="none").view(4, -1).mean(0)
        length = state.clock.steps(self.ramp)
        weight = self.consistency * math.exp(-5 * (1 - min(1.0, (state.step - self.begun) / length)) ** 2 if length else 0.0)
        if not weight:
            return losses
        with torch.no_grad():
            goal = self.read(state, batch.x, self.teacher)[1].softmax(-1)
        return losses + weight * (z.softmax(-1).view(4, *goal.shape) - goal).square().mean((0, 2))

    @torch.no_grad()
    def step_end(self, state):
        trained = dict(state.model.named_parameters())
        decay = min(1 - 1 / (state.step - self.begun + 2), self.decay)  # the true average until the running one is better
        for name, value in state.model.state_dict().items():
            self.teacher[name].lerp_(value, 1 - decay) if name in trained else self.teacher[name].copy_(value)
        for name, mask in state.masks.items():
            self.teacher[name] *= mask

    def predict(self, state, x):
        known = self.teacher and self.restarts == state.restarts
        return self.read(state, x, self.teacher if known else None)[1]


def build(rotation: float = 1.0, consistency: float = 100.0, share: float = 0.5, decay: float = 0.97, ramp: Duration = "5ep"):
    """loss(z, t) + rotation CE(turn) + consistency mean over four turns and the classes of (p(turned x) - teacher(x))^2; the teacher predicts.

    Args:
        rotation: >= 0; weight of telling the four turns apart by the first features.
        consistency: >= 0; weight of the agreement with the teacher, whose weights are a running average, once it is ramped up.
        share: in [0, 1); share of the features that belong to the turn; the class is read from the others.
        decay: in [0, 1); of the running average of the weights.
        ramp: length of the ramp-up exp(-5 (1 - t)^2).
    """
    return RDCR(rotation, consistency, share, decay, ramp)
