"""Forward loss correction: estimate how classes are mistaken, then train a network whose outputs, so corrupted, explain the labels."""

import torch

from runner import Duration, card
from runner.core.phases import Phase

CARD = card(
    paper="forward2017",
    arxiv="1609.03683",
    source="Patrini et al. 2017, theorem 2, equations 11 and 12, algorithm 1; authors' code giorgiop/loss-correction, models.py and loss.py",
    rung={"losses": "correct"},
    owns=("phases",),
    tasks=("classification",),
)


def estimate(p, quantile: float):
    """T (C, C) from probabilities (n, C): row c are those of the sample surest of class c below that quantile of the samples, or of all if it is 1."""
    surest = []
    for column in p.T:
        if quantile < 1:
            column = column.where(column < torch.quantile(column, quantile, interpolation="higher"), 0)
        surest.append(column.argmax())
    return p[torch.stack(surest)]


class ForwardCorrection:
    def __init__(self, warmup, quantile, restart):
        self.warmup, self.quantile, self.restart = warmup, quantile, restart
        self.start: dict[str, torch.Tensor] = {}

    def setup(self, state):
        self.matrix = torch.eye(state.info.outputs, device=state.device)

    def phases(self, state):
        return [Phase("warm-up", self.warmup, self.keep_start), Phase("corrected", None, self.learn, fresh=self.restart)]

    def keep_start(self, state):
        if self.restart:
            self.start = state.weights()

    def learn(self, state):
        """T from the warmed-up network; `per_sample["transition"]` is P(the sample's label | true class), for each true class."""
        training, train = state.model.training, state.data.train
        state.model.eval()
        p = torch.cat([batch.z.float().softmax(-1) for batch in state.predictions(train)])
        state.forget_predictions()
        state.model.train(training)
        self.matrix = estimate(p, self.quantile)
        state.per_sample["transition"] = self.matrix.T[train.y]
        if self.restart:
            state.load_weights(self.start)

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
