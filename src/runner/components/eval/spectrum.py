"""How a network spreads its features: the singular values of the matrix of all samples' features."""

import torch
from torch.nn import functional as F

from runner import card
from runner.components._features import classifier, inputs

CARD = card(
    paper="nmtune2024",
    arxiv="2309.17002",
    source="Chen et al. 2024, definitions 2.1 and 2.2; authors' code Hhhhhhao/Noisy-Model-Learning, svd.py: rows of norm 1, less their own means",
    tasks=("classification",),
)


def spectrum(features):
    """The singular values of the features (n, d), as shares of their sum."""
    rows = F.normalize(features.double(), dim=1)
    values = torch.linalg.svdvals(rows - rows.mean(1, keepdim=True))
    return values / values.sum()


class Spectrum:
    def __init__(self, splits):
        self.splits = splits

    def measure(self, state, split):
        last = classifier(state.model, "eval/spectrum")
        with inputs(last) as seen:
            for batch in split.batches(torch.arange(len(split)), state.eval_batch, state.device):
                state.model(batch.x)
        share = spectrum(torch.cat(seen))
        return {"sve": torch.special.entr(share).sum(), "lsvr": -share[0].log()}


def build(splits: list[str] = ("test",)):
    """sve: entropy of the singular values of the features, as shares of their sum; lsvr: -log of the largest one's share.

    Args:
        splits: where to measure: train, val, test.
    """
    return Spectrum(list(splits))
