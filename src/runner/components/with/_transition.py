"""The transition matrix T of label noise, T[c, k] = P(label k | true class c), estimated between two phases of training."""

import torch

from runner.core.phases import Phase


def estimate(p, quantile: float):
    """T (C, C) from probabilities (n, C): row c are those of the sample surest of class c below that quantile of the samples, or of all if it is 1."""
    surest = []
    for column in p.T:
        if quantile < 1:
            column = column.where(column < torch.quantile(column, quantile, interpolation="higher"), 0)
        surest.append(column.argmax())
    return p[torch.stack(surest)]


class TransitionMatrix:
    """A hook that trains as usual in phase 0 and knows `matrix` in phase 1; what it then does to the losses is its subclass's own."""

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
            state.load_weights(self.start, anew=True)
