"""Mean teacher: the student agrees with a teacher whose weights are the running average of its own. The teacher predicts."""

import math

import torch
from torch.func import functional_call

from runner import Duration, card

CARD = card(
    paper="meanteacher2017",
    arxiv="1703.01780",
    source="Tarvainen & Valpola 2017, equations 1 and 2; authors' code CuriousAI/mean-teacher, pytorch/main.py, ramps.py, cifar10_test.py",
    off={"weight": 0.0, "sigma": 0.0, "decay": 0.0},
    rung={"step_end": "average"},
    tasks=("classification",),
    owns=("eval-weights",),
)


class MeanTeacher:
    def __init__(self, weight, decay, ramp, sigma):
        self.weight, self.decay, self.ramp, self.sigma = weight, decay, ramp, sigma
        self.teacher: dict[str, torch.Tensor] = {}
        self.restarts = self.begun = 0  # of the training, and the step at which the teacher began

    def noisy(self, state, x):
        """One of two independent perturbations of the inputs."""
        return x + self.sigma * torch.randn(x.shape, generator=state.rng("learner/mean_teacher")).to(x) if self.sigma else x

    def compute(self, state, batch):
        if not self.teacher or self.restarts != state.restarts:
            self.teacher, self.restarts, self.begun = state.weights(), state.restarts, state.step
        batch.z = state.model(self.noisy(state, batch.x))
        losses = state.loss(batch.z, batch.t)
        length = state.clock.steps(self.ramp)
        weight = self.weight * math.exp(-5 * (1 - min(1.0, (state.step - self.begun) / length)) ** 2 if length else 0.0)
        if not weight:
            return losses
        with torch.no_grad():
            goal = functional_call(state.model, self.teacher, (self.noisy(state, batch.x),)).softmax(-1)
        return losses + weight * (batch.z.softmax(-1) - goal).square().mean(-1)

    @torch.no_grad()
    def step_end(self, state):
        trained = dict(state.model.named_parameters())
        decay = min(1 - 1 / (state.step - self.begun + 2), self.decay)  # the true average until the running one is better
        for name, value in state.model.state_dict().items():
            mean = self.teacher[name]
            mean.lerp_(value, 1 - decay) if name in trained else mean.copy_(value)
        for name, mask in state.masks.items():
            self.teacher[name] *= mask

    def predict(self, state, x):
        known = self.teacher and self.restarts == state.restarts
        return functional_call(state.model, self.teacher, (x,)) if known else state.model(x)


def build(weight: float = 100.0, decay: float = 0.97, ramp: Duration = "5ep", sigma: float = 0.15):
    """loss + w(t) mean_c (p_c(x + noise) - teacher_c(x + other noise))^2, with w(t) = weight exp(-5 (1 - t / ramp)^2).

    Buffers, such as running statistics of normalisations, are the student's.

    Args:
        weight: >= 0; of the agreement, once it is ramped up.
        decay: in [0, 1); of the running average of the weights (0.97 with the authors' CIFAR-10 settings, 0.999 in the paper).
        ramp: length of the ramp-up.
        sigma: >= 0; Gaussian noise on the inputs, drawn anew for student and teacher (0.15 in the paper).
    """
    return MeanTeacher(weight, decay, ramp, sigma)
