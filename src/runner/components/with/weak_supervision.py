"""Weak-to-strong generalisation: a poor model, trained on a few true labels or elsewhere, labels the other samples for a better one."""

import importlib
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from runner import Duration, UserError, card
from runner.components._torchvision import check, trained
from runner.core.targets import soft

regression = importlib.import_module("runner.components.with._regression").regression  # `with` is a keyword

CARD = card(
    paper="weaktostrong2023",
    arxiv="2312.09390",
    source="Burns et al. 2023, section 4.3.2 and appendix A.4; authors' code openai/weak-to-strong, weak_to_strong/loss.py (logconf_loss_fn, for two classes) "
    "and vision/run_weak_strong.py",
    rung={"batch": "target", "losses": "correct", "eval_enter": "choose"},
    tasks=("classification",),
    images=True,
    owns=("targets",),
)


def hardened(p: Tensor, balance: Tensor) -> Tensor:
    """The class (B,) by whose threshold a sample's probability (B, C) is passed most: the threshold is passed by the share of the batch in `balance` (C,)."""
    limits = torch.stack([column.quantile(1 - share) for column, share in zip(p.unbind(1), balance.clamp(0, 1), strict=True)])
    return (p.clamp_min(1e-12).log() - limits.clamp_min(1e-12).log()).argmax(1)


class WeakSupervision:
    def __init__(self, labels, side, network, confidence, rise, supervision, evaluate):
        self.labels, self.side, self.network, self.confidence, self.rise = labels, side, network, confidence, rise
        self.supervision, self.evaluate = supervision, evaluate

    def setup(self, state):
        train, n = state.data.train, len(state.data.train)
        if self.labels >= n:
            raise UserError(f"with.weak_supervision.labels={self.labels} leaves none of the {n} training samples to the student")
        rows = torch.randperm(n, generator=state.rng("with/weak_supervision"))[: self.labels].to(state.device)
        truth = train.y if train.clean is None else train.clean
        self.supervisor = self.pretrained(state) if self.network else self.fitted(train.fetch(rows).x, truth[rows], state.info.outputs)
        self.free = torch.ones(n, dtype=torch.bool, device=state.device)
        self.free[rows] = False
        passes = train.batches(torch.arange(n), state.eval_batch, state.device)
        weak = torch.cat([self.supervisor(batch.x).softmax(-1) for batch in passes])
        state.per_sample["weak_supervision"] = weak if self.supervision == "weak" else soft(truth, state.info.outputs)

    def pooled(self, x):
        return F.adaptive_avg_pool2d(x, self.side).flatten(1)

    def fitted(self, x, y, classes):
        """A logistic regression on averages of the pixels: images -> logits."""
        self.weight, self.bias = regression(self.pooled(x), y, classes)
        return lambda x: self.pooled(x) @ self.weight + self.bias

    def pretrained(self, state):
        """A network as torchvision trained it: images -> logits."""
        network = trained(self.network).requires_grad_(False).to(state.device)
        answer = lambda x: network(x.expand(-1, 3, -1, -1))  # a function, so that the network is in no checkpoint
        try:
            classes = answer(torch.zeros(1, *state.info.shape, device=state.device)).shape[-1]
        except (RuntimeError, ValueError, AssertionError) as error:
            said = str(error).splitlines()[0]
            raise UserError(f"with.weak_supervision.network={self.network} does not take inputs of shape {state.info.shape}: {said}") from error
        if classes != state.info.outputs:
            raise UserError(f"with.weak_supervision.network={self.network} tells {classes} classes apart; the data has {state.info.outputs}")
        return answer

    def batch(self, state, batch):
        free = self.free[batch.i]
        if not free.all():
            batch = batch.take(free if free.any() else slice(0, 1))
            batch.w = batch.w if free.any() else torch.zeros(1, device=batch.x.device)
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
    network: str | None = None,
    confidence: float = 0.5,
    rise: Duration = "10ep",
    supervision: Literal["weak", "truth"] = "weak",
    evaluate: Literal["student", "supervisor"] = "student",
):
    """loss(z, (1 - a) weak prediction + a own hardened prediction) on all samples but those on whose true labels the weak model was trained.

    The weak model is a logistic regression on averages of the pixels, or a trained network of torchvision. Own predictions are hardened so that the classes
    are as frequent as in the weak ones.

    Args:
        labels: >= 0; samples whose true labels the weak model is given, and it alone; 0 only where that is a network, which needs none.
        side: >= 1; of the image that the logistic regression sees, after averaging.
        network: classifier of torchvision with its best weights, such as alexnet, as the weak model; the data's classes must be those of the weights
            in the same order, and images normalised as ImageNet's. None for the logistic regression.
        confidence: in [0, 1]; a, once it has risen; 0 is plain training on the weak predictions.
        rise: time in which a rises to its value.
        supervision: what the student is trained on: weak predictions, or the truth, which shows the most that is to be had.
        evaluate: what is evaluated: the student, or the supervisor.
    """
    if network is not None:
        check(network)
    elif not labels:
        raise ValueError("labels=0 leaves the weak model without a label; with network it needs none")
    return WeakSupervision(labels, side, network, confidence, rise, supervision, evaluate)
