"""Accuracy on inputs that are not like those in training: with Gaussian noise."""

import torch

from runner import card

CARD = card(
    arxiv="1903.12261",
    source="Hendrycks & Dietterich 2019, Gaussian noise of corrupted test sets",
    better={"acc_shifted": "max"},
    tasks=("classification",),
)


class Shifted:
    def __init__(self, strength, draws, splits):
        self.strength, self.draws, self.splits = strength, draws, splits

    def measure(self, state, split):
        stream, right = torch.Generator().manual_seed(0), 0  # the same noise at each evaluation and in each run
        for batch in split.batches(torch.arange(len(split)), state.eval_batch, state.device):
            for _ in range(self.draws):
                x = batch.x + self.strength * torch.randn(batch.x.shape, generator=stream).to(batch.x)
                right += (state.predict(x).argmax(-1) == batch.y).sum()
        return {"acc_shifted": 100 * right / (self.draws * len(split))}


def build(strength: float = 0.3, draws: int = 10, splits: list[str] = ("test",)):
    """acc_shifted: accuracy in percent on inputs with Gaussian noise, the same in each run.

    Args:
        strength: >= 0; its standard deviation.
        draws: >= 1; of the noise on each input.
        splits: where to measure: train, val, test.
    """
    return Shifted(strength, draws, list(splits))
