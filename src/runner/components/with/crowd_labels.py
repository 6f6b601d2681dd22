"""What a crowd's answers are made into: the majority's label, Dawid and Skene's, or the two likeliest answers with how likely they are."""

from typing import Literal

import torch
from torch.nn import functional as F

from runner import UserError, card

CARD = card(
    paper="toptwo2023",
    arxiv="2301.00006",
    source="Jeong & Chung 2023, algorithms 1 and 2 (one singular vector for all thresholds together, no split of the data); Dawid & Skene 1979, EM",
    off={"method": "majority"},
    close=True,
    rung={"batch": "target"},
    tasks=("classification",),
)


def votes(answers, classes: int):
    """One-hot answers (n, workers, C), zeros where there is none."""
    return F.one_hot(answers.clamp_min(0), classes).double() * (answers >= 0).unsqueeze(2)


def dawid_skene(given, steps: int = 30):
    """Probabilities (n, C) by EM over a confusion matrix for each worker, from the shares of the votes."""
    p = given.sum(1) / given.sum((1, 2)).clamp_min(1).unsqueeze(1)
    for _ in range(steps):
        confusion = torch.einsum("nc,nwk->wck", p, given) + 0.01
        confusion = (confusion / confusion.sum(2, keepdim=True)).log()
        p = (torch.einsum("nwk,wck->nc", given, confusion) + p.mean(0).clamp_min(1e-12).log()).softmax(1)
    return p


def abilities(answers, classes: int):
    """p (workers,): the leading singular vector of the thresholded, centred answers; a task's top two jump by 2 - 4 / C together, which gives the scale."""
    asked = answers >= 0
    levels = torch.arange(1, classes, device=answers.device)
    signs = torch.where(answers.unsqueeze(2) < levels, -1.0, 1.0).double() - (1 - 2 * levels / classes)
    signs = signs * asked.unsqueeze(2)  # (n, workers, C - 1)
    _, vectors = torch.linalg.eigh(torch.einsum("nwk,nvk->wv", signs, signs))
    worker = vectors[:, -1]
    worker = worker * worker.sum().sign()
    task = torch.einsum("nwk,w->nk", signs, worker) / (asked.double() @ worker.square()).clamp_min(1e-12).unsqueeze(1)
    jumps = F.pad(task, (1, 0)) - F.pad(task, (0, 1))
    scale = jumps.topk(2, 1)[0].sum(1).mean() / (2 - 4 / classes)
    return (worker * scale).clamp(0.01, 0.99)


def top_two(answers, classes: int, grid: int = 20):
    """Soft labels q e_g + (1 - q) e_h (n, C): the likeliest pair of answers and q, given the workers' abilities."""
    given, p = votes(answers, classes), abilities(answers, classes)
    q = torch.arange(grid // 2, grid + 1, device=answers.device).double() / grid  # from 1/2 to 1
    gain = lambda share: torch.einsum("nwk,wq->nkq", given, (p.unsqueeze(1) * share / ((1 - p.unsqueeze(1)) / classes)).log1p())
    both = gain(q).unsqueeze(2) + gain(1 - q).unsqueeze(1)  # (n, g, h, q)
    both = both.masked_fill(torch.eye(classes, device=answers.device).bool().view(1, classes, classes, 1), -torch.inf)
    best = both.flatten(1).argmax(1)
    first, second, share = best // (classes * len(q)), best // len(q) % classes, q[best % len(q)].unsqueeze(1)
    return share * F.one_hot(first, classes) + (1 - share) * F.one_hot(second, classes)


class CrowdLabels:
    def __init__(self, method):
        self.method = method

    def setup(self, state):
        train, classes = state.data.train, state.info.outputs
        if self.method == "top_two" and classes < 3:
            raise UserError("with/crowd_labels: method=top_two needs three classes or more, of two any pair is the top two; set another method")
        answers = train.side.get("answers", train.y.unsqueeze(1))
        given = votes(answers, classes)
        shares = given.sum(1) / given.sum((1, 2)).clamp_min(1).unsqueeze(1)
        if self.method == "majority":  # the second place goes to the votes
            labels = 0.75 * F.one_hot(train.y, classes) + 0.25 * shares
            self.targets = F.one_hot(train.y, classes).float()
        else:
            labels = {"shares": lambda: shares, "dawid_skene": lambda: dawid_skene(given), "top_two": lambda: top_two(answers, classes)}[self.method]()
            self.targets = labels.float()
        state.per_sample["crowd_labels"] = labels.float()

    def batch(self, state, batch):
        batch.t = self.targets[batch.i]


def build(method: Literal["majority", "shares", "dawid_skene", "top_two"] = "top_two"):
    """Trains on what the answers of noise=crowd or noise=answers are made into; where there are none, on the labels.

    Args:
        method: the split's labels (those of the majority), the shares of the votes, the classes' probabilities by Dawid and Skene, or the top two answers.
    """
    return CrowdLabels(method)
