"""Backward loss correction: estimate how classes are mistaken, then weigh the losses of all classes by the inverse, which undoes it on average."""

import importlib

import torch

from runner import Duration, card
from runner.core.targets import soft

TransitionMatrix = importlib.import_module("runner.components.with._transition").TransitionMatrix  # `with` is a keyword

CARD = card(
    paper="backward2017",
    arxiv="1609.03683",
    source="Patrini et al. 2017, theorem 1, section 4.1 and algorithm 1; authors' code giorgiop/loss-correction, models.py and loss.py (p >= 1e-7)",
    off={"identity": 1.0, "restart": False},
    close=True,
    rung={"losses": "correct"},
    owns=("phases",),
    tasks=("classification",),
    uses=("loss", "outputs"),
)


def undo(matrix, identity: float):
    """The (pseudo-)inverse of T, mixed with the identity."""
    return torch.linalg.pinv((1 - identity) * matrix + identity * torch.eye(len(matrix), device=matrix.device))


class BackwardCorrection(TransitionMatrix):
    def __init__(self, warmup, quantile, restart, identity):
        super().__init__(warmup, quantile, restart)
        self.identity = identity

    def losses(self, state, losses, batch):
        if state.phase == 0:
            return losses
        classes = torch.arange(state.info.outputs, device=batch.z.device)
        bounded = batch.z.float().softmax(-1).clamp_min(1e-7).log()  # negative weights would reward ever larger losses
        every = state.loss(bounded.unsqueeze(1).expand(-1, len(classes), -1), classes.expand(len(bounded), -1))  # (B, C): were the label c
        corrected = (soft(batch.t, len(classes)) @ undo(self.matrix, self.identity) * every).sum(-1)
        return losses - state.loss(batch.z, batch.t) + corrected  # what a learner adds to the loss stays


def build(warmup: Duration | None = None, quantile: float = 0.97, restart: bool = True, identity: float = 0.0):
    """sum_c (T^-1)[t, c] loss(z, c), with T estimated after a warm-up: unbiased for the loss under clean labels, and unbounded below without its floor.

    Args:
        warmup: length of the training on which T is estimated; half of the run if not given.
        quantile: in (0, 1]; the sample at this quantile of p_c stands for class c (0.97 in the paper; 1 for the surest one, as for CIFAR-100).
        restart: train the corrected network from the start; otherwise go on with the warmed-up one.
        identity: in [0, 1]; share of the identity that is mixed into T before it is inverted, where T is nearly singular.
    """
    return BackwardCorrection(warmup, quantile, restart, identity)
