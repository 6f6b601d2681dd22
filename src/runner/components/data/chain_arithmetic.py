"""Chains of arithmetic modulo a prime, solved step by step: how wrong solutions and easy sub-tasks teach hard tasks."""

from typing import Literal

import torch
from torch import Tensor

from runner import card
from runner.core.data import Data, Info, Split
from runner.core.rng import derive

CARD = card(
    paper="guidingcomplexity2025",
    arxiv="2410.20533",
    source="generator for the setting of He, Yin & Peng 2025: outcome and step-wise error rates of hard tasks, their sub-tasks, and paraphrases",
    tasks=("language",),
)


def solve(start: Tensor, kind: Tensor, number: Tensor, slips: Tensor, p: int) -> Tensor:
    """All intermediate results (n, k): each follows from the one before as it is written, but for what the slips (n, k) add to it."""
    found, value = [], start
    for k, n, slip in zip(kind.unbind(1), number.unbind(1), slips.unbind(1), strict=True):
        value = (torch.where(k == 0, value + n, torch.where(k == 1, value - n, value * n)) + slip) % p
        found.append(value)
    return torch.stack(found, 1)


def slipped(n: int, steps: int, outcome: float, step: float, p: int, g: torch.Generator) -> Tensor:
    """What is added to each result (n, k): not 0 in a share `step` of all of them, which lie in a share `outcome` of the solutions."""
    wrong, total = round(outcome * n), round(step * n * steps)
    if not outcome or wrong == total == 0:
        return torch.zeros(n, steps).long()
    if not wrong <= total <= wrong * steps:
        raise ValueError(f"{outcome:.0%} wrong solutions of {steps} steps have between {outcome / steps:.1%} and {outcome:.1%} wrong steps, not {step:.1%}")
    count = torch.zeros(n).long()
    count[:wrong] = total // wrong + (torch.arange(wrong) < total % wrong).long()
    rank = torch.rand(n, steps, generator=g).argsort(1).argsort(1)
    return ((rank < count[:, None]) * torch.randint(1, p, (n, steps), generator=g))[torch.randperm(n, generator=g)]


def build(
    tasks: int = 6000, steps: int = 6, modulus: int = 5, outcome_error: float = 0.0, step_error: float = 0.0,
    train: Literal["hard", "subtasks", "both", "rephrased"] = "hard", sub: int = 3, test_tasks: int = 500, split: int = 0,
):  # fmt: skip
    """A task is a residue and `steps` operations (add, subtract or multiply by a number); its solution are all intermediate results, the last is the answer.

    A slip adds a random number to a result, with which the solution goes on. x = [start, operations, =, results but the last], y = results, at the last
    positions. A sub-task is a stretch of a task with its true start value, solved rightly: a shorter task, after which the places hold a token of their own.

    Args:
        tasks: >= 1; hard tasks that the training data are made of.
        steps: >= 2; of a hard task.
        modulus: >= 3; a prime.
        outcome_error: in [0, 1]; share of the hard tasks' solutions with a slip; one slip makes the answer wrong, several may cancel.
        step_error: in [0, 1]; share of the steps that are slips; between outcome_error / steps and outcome_error, and none where that is 0.
        train: hard tasks; the sub-tasks they fall into; both; or hard tasks and a paraphrase of each (a - n for a + (p - n)), solved in the same words.
        sub: >= 1; steps of a sub-task.
        test_tasks: >= 1; hard ones, solved rightly.
        split: >= 0; which draw.
    """
    g, p, k = torch.Generator().manual_seed(derive(split, "chain_arithmetic")), modulus, steps
    blank, equals = 4 * p, 4 * p + 1  # after the residues and three operations by p numbers

    def draw(n):
        kind = torch.randint(3, (n, k), generator=g)
        number = torch.where(kind == 2, torch.randint(1, p, (n, k), generator=g), torch.randint(p, (n, k), generator=g))
        return torch.randint(p, (n,), generator=g), kind, number

    def sample(start, kind, number, results):
        pad = lambda v: torch.nn.functional.pad(v, (0, k - v.shape[1]), value=blank)
        operations, results = pad(p * (kind + 1) + number), pad(results)
        return torch.cat([start[:, None], operations, torch.full_like(start, equals)[:, None], results[:, :-1]], 1), results

    start, kind, number = draw(tasks)
    none = torch.zeros(tasks, k).long()
    truth = solve(start, kind, number, none, p)
    written = solve(start, kind, number, slipped(tasks, k, outcome_error, step_error, p, g), p)
    parts = []
    if train != "subtasks":
        parts.append(sample(start, kind, number, written))
    if train == "rephrased":
        parts.append(sample(start, torch.where(kind < 2, 1 - kind, kind), torch.where(kind < 2, -number % p, number), written))
    if train in ("subtasks", "both"):
        values = torch.cat([start[:, None], truth], 1)
        for first in range(0, k, sub):
            own = slice(first, first + sub)
            parts.append(sample(values[:, first], kind[:, own], number[:, own], truth[:, own]))
    x, y = (torch.cat(v) for v in zip(*parts, strict=True))
    task = draw(test_tasks)
    held = sample(*task, solve(*task, torch.zeros(test_tasks, k).long(), p))
    return Data(Info("language", (2 * k + 1,), equals + 1, predicted=k), Split(x, y), Split(*held))
