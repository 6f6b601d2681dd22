"""What a crowd's answers are made into: the majority's label, Dawid and Skene's, or the two likeliest answers with how likely they are."""

from typing import Literal

import torch
from scipy.sparse import csr_array
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
    owns=("targets",),
)


def listed(answers, classes: int):
    """Of the answers (n, workers), -1 where there is none, the sample and the worker of each (M,), and the place of sample and answer in a table (n C,)."""
    sample, worker = (answers >= 0).nonzero().unbind(1)
    return sample, worker, sample * classes + answers[sample, worker]


def total(place, values, rows: int):
    """Sums (rows, ...) of the values (M, ...) that have the same place (M,)."""
    return torch.zeros(rows, *values.shape[1:], dtype=values.dtype, device=values.device).index_add(0, place, values)


def votes(answers, classes: int):
    """Shares of the votes (n, C), zeros where there are none."""
    place = listed(answers, classes)[2]
    given = total(place, torch.ones_like(place, dtype=torch.double), len(answers) * classes).view(-1, classes)
    return given / given.sum(1, keepdim=True).clamp_min(1)


def dawid_skene(answers, classes: int, steps: int = 30):
    """Probabilities (n, C) by EM over a confusion matrix for each worker, from the shares of the votes."""
    sample, worker, place = listed(answers, classes)
    place, p = worker * classes + place % classes, votes(answers, classes)
    for _ in range(steps):
        confusion = total(place, p[sample], answers.shape[1] * classes).view(-1, classes, classes) + 0.01  # of worker, answer, truth
        confusion = (confusion / confusion.sum(1, keepdim=True)).log().flatten(0, 1)
        p = (total(sample, confusion[place], len(answers)) + p.mean(0).clamp_min(1e-12).log()).softmax(1)
    return p


def abilities(answers, classes: int):
    """p (workers,): the leading singular vector of the thresholded, centred answers; a task's top two jump by 2 - 4 / C together, which gives the scale."""
    sample, worker, place = listed(answers, classes)
    levels = torch.arange(1, classes, device=answers.device)
    signs = torch.where((place % classes).unsqueeze(1) < levels, -1.0, 1.0).double() - (1 - 2 * levels / classes)  # (M, C - 1)
    rows = sample.unsqueeze(1) * (classes - 1) + levels - 1
    entries = signs.flatten().cpu(), (rows.flatten().cpu(), worker.repeat_interleave(classes - 1).cpu())
    table = csr_array(entries, shape=(len(answers) * (classes - 1), answers.shape[1]))
    _, vectors = torch.linalg.eigh(torch.from_numpy((table.T @ table).toarray()).to(answers.device))
    able = vectors[:, -1]
    able = able * able.sum().sign()
    task = total(sample, signs * able[worker].unsqueeze(1), len(answers)) / total(sample, able[worker].square(), len(answers)).clamp_min(1e-12).unsqueeze(1)
    jumps = F.pad(task, (1, 0)) - F.pad(task, (0, 1))
    scale = jumps.topk(2, 1)[0].sum(1).mean() / (2 - 4 / classes)
    return (able * scale).clamp(0.01, 0.99)


def top_two(answers, classes: int, grid: int = 20):
    """Soft labels q e_g + (1 - q) e_h (n, C): the likeliest pair of answers and q, given the workers' abilities."""
    _, worker, place = listed(answers, classes)
    p = abilities(answers, classes).unsqueeze(1)
    q = torch.arange(grid // 2, grid + 1, device=answers.device).double() / grid  # from 1/2 to 1
    gain = lambda share: total(place, (p * share / ((1 - p) / classes)).log1p()[worker], len(answers) * classes).view(-1, classes, len(q))
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
        if self.method == "majority":  # the second place goes to the votes
            labels = 0.75 * F.one_hot(train.y, classes) + 0.25 * votes(answers, classes)
            self.targets = F.one_hot(train.y, classes).float()
        else:
            labels = {"shares": votes, "dawid_skene": dawid_skene, "top_two": top_two}[self.method](answers, classes)
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
