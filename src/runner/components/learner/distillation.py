"""Knowledge distillation: train a teacher, then a student of the same kind on the teacher's softened predictions too."""

import torch
from torch.func import functional_call
from torch.nn import functional as F

from runner import Duration, card
from runner.core.phases import Phase

CARD = card(
    paper="distillation2015",
    arxiv="1503.02531",
    source="Hinton et al. 2015, section 2; equal networks as in Furlanello et al. 2018, 1805.04770",
    owns=("phases", "loss"),
    tasks=("classification",),
)


def divergence(z, teacher, temperature: float):
    """T^2 KL(softmax(teacher / T) || softmax(z / T)), per sample; its gradient tends to (z - teacher) / C for centred logits and large T."""
    goal, p = (teacher / temperature).log_softmax(-1), (z / temperature).log_softmax(-1)
    return temperature**2 * F.kl_div(p, goal, reduction="none", log_target=True).sum(-1)


class Distillation:
    def __init__(self, alpha, temperature, teacher):
        self.alpha, self.temperature, self.length = alpha, temperature, teacher
        self.start: dict[str, torch.Tensor] = {}
        self.teacher: dict[str, torch.Tensor] = {}

    def phases(self, state):
        return [Phase("teacher", self.length, self.keep_start), Phase("student", None, self.graduate, fresh=True)]

    def keep_start(self, state):
        self.start = state.weights()

    def graduate(self, state):
        self.teacher = state.weights()
        state.load_weights(self.start, anew=True)

    def compute(self, state, batch):
        batch.z = state.model(batch.x)
        losses = state.loss(batch.z, batch.t)
        if not self.teacher or not self.alpha:
            return losses
        training = state.model.training
        state.model.eval()
        with torch.no_grad():
            teacher = functional_call(state.model, self.teacher, (batch.x,))
        state.model.train(training)
        return (1 - self.alpha) * losses + self.alpha * divergence(batch.z, teacher, self.temperature)


def build(alpha: float = 0.9, temperature: float = 4.0, teacher: Duration | None = None):
    """(1 - alpha) loss + alpha T^2 KL(teacher || student), both softened by the temperature T, with a student that starts where the teacher started.

    Args:
        alpha: in [0, 1]; weight of the teacher's predictions.
        temperature: > 0; by which logits are divided before the softmax.
        teacher: how long the teacher is trained; half of the run if not given.
    """
    return Distillation(alpha, temperature, teacher)
