"""Labels by a weak annotator: a small classifier that was trained on a few samples labels the others. It errs where inputs are hard."""

import torch
from torch import nn
from torch.nn import functional as F

from runner import card

CARD = card(
    paper="rog2019",
    arxiv="1901.11300",
    source="Lee et al. 2019, semantic noisy labels of section 4 (classifiers trained on 5 % of CIFAR-10, 20 % of CIFAR-100 label the rest); here a perceptron",
    off={"share": 1.0},
    tasks=("classification",),
)
CHUNK = 4096


def inputs(split, rows):
    """Flat inputs of these rows, a part at a time."""
    for part in rows.split(CHUNK):
        yield split.fetch(part).x.flatten(1).float()


def build(share: float = 0.05, width: int = 0, steps: int = 300, lr: float = 0.01):
    """All training samples but those that the annotator learned from get the class that it takes to be likeliest. The rate is what comes of it.

    Args:
        share: in (0, 1]; of each class the samples that the annotator learns from, at least one; their labels stay.
        width: >= 0; hidden units of the annotator; none makes it linear.
        steps: >= 1; Adam steps on all of its samples at once.
        lr: > 0; learning rate.
    """

    def corrupt(data, generator):
        split, classes = data.train, data.info.outputs
        order, y = torch.randperm(len(split), generator=generator), split.y.cpu()
        known = [rows[: max(1, round(share * len(rows)))] for c in range(classes) if len(rows := order[y[order] == c])]
        known = torch.cat(known).sort()[0]
        x, features = torch.cat(list(inputs(split, known))), torch.Size(data.info.shape).numel()
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            hidden = [nn.Linear(features, width), nn.ReLU()] if width else []
            annotator = nn.Sequential(*hidden, nn.Linear(width or features, classes)).to(x.device)
            optimizer = torch.optim.Adam(annotator.parameters(), lr)
            for _ in range(steps):
                optimizer.zero_grad()
                F.cross_entropy(annotator(x), split.y[known]).backward()
                optimizer.step()
        with torch.no_grad():
            labels = torch.cat([annotator(part).argmax(-1) for part in inputs(split, torch.arange(len(split)))])
        labels[known] = split.y[known]
        split.relabel(labels)

    return corrupt
