"""Weak-to-strong generalisation: a poor model, trained on a few true labels, labels the other samples for a better one."""

import importlib
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from runner import Duration, UserError, card
from runner.core.targets import soft

regression = importlib.import_module("runner.components.with._regression").regression  # `with` is a keyword

CARD = card(
    paper="weaktostrong2023",
    arxiv="2312.09390",
    source="Burns et al. 2023, section 4.3.2 and appendix A.4; authors' code openai/weak-to-strong, weak_to_strong/loss.py (logconf_loss_fn, for two classes)",
    rung={"batch": "target", "losses": "correct"},
    tasks=("classification",),
    images=True,
)


def hardened(p: Tensor, balance: Tensor) -> Tensor:
    """The class (B,) by whose threshold a sample's probability (B, C) is passed most: the threshold is passed by the share of the batch in `balance` (C,)."""
    limits = torch.stack([column.quantile(1 - share) for column, share in zip(p.unbind(1), balance.clamp(0, 1), strict=True)])
    return (p.clamp_min(1e-12).log() - limits.clamp_min(1e-12).log()).argmax(1)


class WeakSupervision:
    def __init__(self, labels, side, confidence, rise, supervision, evaluate):
        self.labels, self.side, self.confidence, self.rise = labels, side, confidence, rise
        self.supervision, self.evaluate = supervision, evaluate

    def setup(self, state):
        train, n = state.data.train, len(state.data.train)
        if self.labels >= n:
            raise UserError(f"with.weak_supervision.labels={self.labels} leaves none of the {n} training samples to the student")
        rows = torch.randperm(n, generator=state.rng("with/weak_supervision"))[: self.labels].to(state.device)
        truth = train.y if train.clean is None else train.clean
        self.weight, self.bias = regression(self.pooled(train.fetch(rows).x), truth[rows], state.info.outputs)
        self.free = torch.ones(n, dtype=torch.bool, device=state.device)
        self.free[rows] = False
        passes = train.batches(torch.arange(n), state.eval_batch, state.device)
        weak = torch.cat([self.supervisor(batch.x).softmax(-1) for batch in passes])
        state.per_sample["weak_supervision"] = weak if self.supervision == "weak" else soft(truth, state.info.outputs)

    def pooled(self, x):
        return F.adaptive_avg_pool2d(x, self.side).flatten(1)

    def supervisor(self, x):
        return self.pooled(x) @ self.weight + self.bias

    def batch(self, state, batch):
        free = self.free[batch.i]
        if not free.all():
            batch = batch.take(free if free.any() else slice(0, 1))
            batch.w = None if free.any() else torch.zeros(1, device=batch.x.device)
        batch.t = state.per_sample["weak_supervision"][batch.i]
        return batch

    def losses(self, state, losses, batch):
        length = state.clock.steps(self.rise)
        share = self.confidence * (min(1.0, state.step / length) if length else 1.0)
        if not share:
            return losses
        own = hardened(batch.z.detach().float().softmax(-1), batch.t.mean(0))
        goal = (1 - share) * batch.t + share * soft(own, batch.t.shape[-1])
        return losses - state.loss(batch.z, batch.t) + state.loss(batch.z, goal)  # what a learner adds to the loss stays

    def eval_enter(self, state):
        if self.evaluate == "supervisor":
            self.student, state.predict = state.predict, self.supervisor

    def eval_exit(self, state):
        if self.evaluate == "supervisor":
            state.predict = self.student


def build(
    labels: int = 100,
    side: int = 4,
    confidence: float = 0.5,
    rise: Duration = "10ep",
    supervision: Literal["weak", "truth"] = "weak",
    evaluate: Literal["student", "supervisor"] = "student",
):
    """loss(z, (1 - a) weak prediction + a own hardened prediction) on all samples but those on whose true labels the weak model was trained.

    The weak model is a logistic regression on averages of the pixels. Own predictions are hardened so that the classes are as frequent as in the weak ones.

    Args:
        labels: >= 1; samples whose true labels the weak model is given, and it alone.
        side: >= 1; of the image that it sees, after averaging.
        confidence: in [0, 1]; a, once it has risen; 0 is plain training on the weak predictions.
        rise: time in which a rises to its value.
        supervision: what the student is trained on: weak predictions, or the truth, which shows the most that is to be had.
        evaluate: what is evaluated: the student, or the supervisor.
    """
    return WeakSupervision(labels, side, confidence, rise, supervision, evaluate)
