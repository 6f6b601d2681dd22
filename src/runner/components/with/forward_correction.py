"""Forward loss correction: estimate how classes are mistaken, then train a network whose outputs, so corrupted, explain the labels."""

import importlib

from runner import Duration, card

TransitionMatrix = importlib.import_module("runner.components.with._transition").TransitionMatrix  # `with` is a keyword

CARD = card(
    paper="forward2017",
    arxiv="1609.03683",
    source="Patrini et al. 2017, theorem 2, equations 11 and 12, algorithm 1; authors' code giorgiop/loss-correction, models.py and loss.py",
    rung={"losses": "correct"},
    owns=("phases",),
    tasks=("classification",),
    uses=("loss", "outputs"),
)


class ForwardCorrection(TransitionMatrix):
    def losses(self, state, losses, batch):
        if state.phase == 0:
            return losses
        noisy = (batch.z.float().softmax(-1) @ self.matrix).clamp_min(1e-30).log()
        return losses - state.loss(batch.z, batch.t) + state.loss(noisy, batch.t)  # what a learner adds to the loss stays


def build(warmup: Duration | None = None, quantile: float = 0.97, restart: bool = True):
    """loss(log(T' softmax(z)), t), with T estimated after a warm-up. Predictions are the uncorrected outputs.

    Args:
        warmup: length of the training on which T is estimated; half of the run if not given.
        quantile: in (0, 1]; the sample at this quantile of p_c stands for class c (0.97 in the paper; 1 for the surest one, as for CIFAR-100).
        restart: train the corrected network from the start; otherwise go on with the warmed-up one.
    """
    return ForwardCorrection(warmup, quantile, restart)
