"""Linear-chain conditional random field on a model's outputs: the tags of a sequence are scored, normalised and decoded together."""

import torch
from torch import nn

from runner import card
from runner.core.targets import soft

CARD = card(
    paper="crf2001",
    source="Lafferty, McCallum & Pereira 2001, section 3; on a BiLSTM as in Lample et al. 2016 (1603.01360), section 2.2",
    tasks=("language",),
    owns=("loss",),
)


class Chain(nn.Module):
    """score(z, y) = start_{y_1} + sum_t z_{t, y_t} + sum_t moves_{y_t, y_t+1} + end_{y_T}."""

    def __init__(self, tags: int):
        super().__init__()
        self.start, self.end, self.moves = (nn.Parameter(torch.zeros(shape)) for shape in ((tags,), (tags,), (tags, tags)))

    def score(self, z, y):
        """Of tags as probabilities (B, T, C), the mean over independent tags drawn from them: (B,)."""
        return (y * z).sum((1, 2)) + y[:, 0] @ self.start + y[:, -1] @ self.end + ((y[:, :-1] @ self.moves) * y[:, 1:]).sum((1, 2))

    def forwards(self, z, reduce):
        """For each t and tag (B, T, C): the scores of all that ends there, reduced by log-sum-exp or max."""
        found = [self.start + z[:, 0]]
        for t in range(1, z.shape[1]):
            found.append(reduce(found[-1].unsqueeze(2) + self.moves, 1) + z[:, t])
        return torch.stack(found, 1)

    def backwards(self, z, reduce):
        """For each t and tag (B, T, C): the scores of all that follows, reduced."""
        found = [self.end.expand(len(z), -1)]
        for t in range(z.shape[1] - 1, 0, -1):
            found.append(reduce(self.moves + (z[:, t] + found[-1]).unsqueeze(1), 2))
        return torch.stack(found[::-1], 1)

    def log_z(self, z):
        """log of the sum of exp(score) over all sequences of tags: (B,)."""
        return torch.logsumexp(self.forwards(z, torch.logsumexp)[:, -1] + self.end, 1)

    def best(self, z):
        """For each t and tag the score of the best sequence that has it: the largest ones are the sequence that Viterbi's algorithm finds."""
        return self.forwards(z, torch.amax) + self.backwards(z, torch.amax)


class CRF:
    def setup(self, state):
        self.tags = int(state.data.train.y.max()) + 1
        self.chain = Chain(self.tags).to(state.device)

    def compute(self, state, batch):
        batch.z = state.model(batch.x)[..., : self.tags]
        z, t = batch.z.float(), soft(batch.t, self.tags)
        return (self.chain.log_z(z) - self.chain.score(z, t)) / z.shape[1]

    def predict(self, state, x):
        return self.chain.best(state.model(x)[..., : self.tags].float())


def build():
    """(log Z - score of the tags) / length, per sequence, by the forward algorithm; the run's loss is not used.

    Tags are the classes up to the largest label. What is evaluated are the scores of the best sequence through each tag of each position:
    their argmax is the best sequence of all, as long as it is unique.
    """
    return CRF()
