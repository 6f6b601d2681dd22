"""Diluted labels: every sample comes with many copies whose labels are drawn at random."""

import torch

from runner import card

CARD = card(
    paper="massive2017",
    arxiv="1705.10694",
    source="Rolnick et al. 2017: alpha uniformly labelled copies of each clean sample; here biased to the next class rather than to look-alikes",
    off={"alpha": 0},
    tasks=("classification",),
)


def build(alpha: int = 20, bias: float = 0.0):
    """The training split grows to 1 + alpha times its size; of the labels of a sample a share (1 + alpha / C) / (1 + alpha) is right.

    Args:
        alpha: >= 0; copies of each sample, which keep the image and not the label.
        bias: in [0, 1]; share of the copies that are labelled as the next class, the others uniformly. Above 1 / alpha that class outnumbers the true one.
    """

    def corrupt(data, generator):
        split, classes = data.train, data.info.outputs
        n, truth = len(split), split.y if split.clean is None else split.clean
        rows = torch.arange(n).repeat(1 + alpha)
        drawn = torch.randint(classes, (n * alpha,), generator=generator)
        biased = torch.rand(n * alpha, generator=generator) < bias
        labels = torch.where(biased, (truth[rows[n:]] + 1) % classes, drawn)
        noisy = torch.cat([split.y, labels.to(split.y)])
        split.resample(rows)
        split.y, split.clean = truth[rows], None
        split.relabel(noisy)

    return corrupt
