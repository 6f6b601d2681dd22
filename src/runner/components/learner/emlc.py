"""EMLC: a teacher decides for each label how far to keep it, and learns to from what a step on its targets does to the loss on clean samples."""

import copy

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from runner import UserError, card
from runner.components._features import classifier, inputs
from runner.components.learner._weighing import twice
from runner.core.targets import soft

CARD = card(
    paper="emlc2023",
    source="Keren Taraday & Baskin 2023 (ICCV); authors' code MitchellKT/Enhanced-Meta-Label-Correction, meta.py (teacher_backward, adversarial labels) "
    "and meta_models.py; one student step in the meta gradient, the authors' gradient_steps=1",
    tasks=("classification",),
    owns=("loss",),
)


class Gate(nn.Module):
    """From features (B, d) and a label (B,) to the share (B, 1) of the label that is kept."""

    def __init__(self, features, classes, width):
        super().__init__()
        self.label, self.keep = nn.Embedding(classes, width), nn.Sequential(nn.Linear(features + width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, features, y):
        return self.keep(torch.cat([features, self.label(y)], -1)).sigmoid()


def meta_term(state, z, losses, targets, clean, lr):
    """lr mean <t_i, c_i>, with c the change of the student's log-probabilities along the gradient of the clean loss after a step on the targets.

    Its gradient with respect to the targets is that of the clean loss after that step, theta - lr grad, where the losses are cross entropy.
    """
    trained = {name: p for name, p in state.model.named_parameters() if p.requires_grad}
    buffers = {name: b.clone() for name, b in state.model.named_buffers()}  # the virtual step leaves running statistics alone
    slopes = torch.autograd.grad(losses.mean(), list(trained.values()), retain_graph=True)
    kept = [state.masks.get(name, 1.0) for name in trained]  # masked weights do not move, as in a step of the run
    moved = {name: ((p - lr * g) * m).detach().requires_grad_() for (name, p), g, m in zip(trained.items(), slopes, kept, strict=True)}
    loss = state.loss(functional_call(state.model, (moved, buffers), (clean.x,)), clean.y).mean()
    along = [g * m for g, m in zip(torch.autograd.grad(loss, list(moved.values())), kept, strict=True)]
    dummy = torch.zeros_like(z, requires_grad=True)  # the derivative along a direction is the gradient of a gradient that is linear in it
    back = torch.autograd.grad(z.log_softmax(-1), list(trained.values()), dummy, create_graph=True)
    (change,) = torch.autograd.grad(back, dummy, along, retain_graph=True)
    return lr * (targets * change).sum(-1).mean()


class EMLC:
    def __init__(self, weight, width, size):
        self.weight, self.width, self.size = weight, width, size

    def setup(self, state):
        if state.data.val is None:
            raise UserError("learner/emlc learns to correct from a clean validation split, which this data has not; add data.val=0.1")
        last = classifier(state.model, "learner/emlc")
        self.teacher = copy.deepcopy(state.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state.rng.derive("learner/emlc"))
            self.gate = Gate(last.in_features, state.info.outputs, self.width).to(state.device)
        state.per_sample["selected"] = torch.ones(len(state.data.train), device=state.device)

    def read(self, x):
        """The teacher's features and outputs."""
        with inputs(classifier(self.teacher, "learner/emlc")) as seen:
            z = self.teacher(x)
        return seen[0], z

    def compute(self, state, batch):
        self.teacher.train(state.model.training)
        rows = torch.randperm(len(state.data.val), generator=state.rng("learner/emlc"))[: self.size]
        clean, label = state.data.val.fetch(rows), soft(batch.t, state.info.outputs)
        features, z = self.read(torch.cat([batch.x, clean.x]))
        (features, clean_features), (z, clean_z) = (v.split([len(batch.i), len(rows)]) for v in (features, z))
        keep = self.gate(features, label.argmax(-1))
        targets = keep * label + (1 - keep) * z.softmax(-1)
        if not state.replay:
            state.per_sample["selected"][batch.i] = keep[:, 0].detach().float()
        batch.z = state.model(batch.x)
        losses = state.loss(batch.z, targets.detach())
        known = F.cross_entropy(clean_z, clean.y) + self.tell_apart(clean_features, clean_z, clean.y)
        if not self.weight:
            return losses + known
        with twice():
            return losses + known + self.weight * meta_term(state, batch.z, losses, targets, clean, state.optimizer.param_groups[0]["lr"])

    def tell_apart(self, features, z, y):
        """Binary cross entropy of the gate on clean samples, every other one with its most likely wrong label."""
        wrong = z.detach().scatter(1, y[:, None], -torch.inf).argmax(1)
        fake = torch.arange(len(y), device=y.device) % 2 == 0
        keep = self.gate(features, torch.where(fake, wrong, y))[:, 0]
        return F.binary_cross_entropy(keep.float().clamp(1e-6, 1 - 1e-6), (~fake).float())


def build(weight: float = 1.0, width: int = 128, batch: int = 128):
    """loss(z, w y + (1 - w) softmax(teacher)), w a gate on the teacher's features and the label; clean samples teach the teacher, the gate and both together.

    The teacher has a network of its own. It learns from a step of the student on its targets (by the gradient of the loss on clean samples after it, exact
    where the loss is cross entropy), from the clean labels, and the gate from clean samples of which every other one is given a wrong label.

    Args:
        weight: >= 0; of the meta gradient; 1 for that of a plain step, 1 / (1 - m) for what momentum m makes of it in the end.
        width: >= 1; of the label's embedding and of the gate's hidden layer.
        batch: >= 1; validation samples in a step.
    """
    return EMLC(weight, width, batch)
