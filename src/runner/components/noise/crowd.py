"""A crowd: workers of different ability each label some samples; every sample has one answer that is easily taken for the true one."""

import numpy as np
import torch

from runner import card

CARD = card(
    paper="toptwo2023",
    arxiv="2301.00006",
    source="Jeong & Chung 2023, section 2; authors' code Hyeonsu-Jeong/TopTwo, functions/generate_data.m; ability Beta as in its experiments",
    tasks=("classification",),
)


def build(workers: int = 60, answers: int = 8, ability: list[float] = (1.0, 1.5), clarity: list[float] = (0.55, 0.9)):
    """Worker i answers task j with the truth by chance p_i q_j + (1 - p_i) / C, with the confusing answer by p_i (1 - q_j) + (1 - p_i) / C, else (1 - p_i) / C.

    `side["answers"]` (n, workers) holds them, -1 where a worker was not asked, `side["confusing"]` (n,) the confusing answers, `side["clarity"]` (n,) q.
    The label becomes that of the majority.

    Args:
        workers: >= 1; in the crowd.
        answers: >= 1; workers asked about each sample, drawn at random.
        ability: > 0; a and b of the Beta distribution of p.
        clarity: in [0.5, 1]; between these q is uniform.
    """
    if len(ability) != 2:
        raise ValueError(f"ability takes a and b of a Beta distribution, not {len(ability)} numbers")
    if len(clarity) != 2 or clarity[0] > clarity[1]:
        raise ValueError(f"clarity={list(clarity)} is not a smallest and a largest value")

    def corrupt(data, generator):
        split, n, classes = data.train, len(data.train), data.info.outputs
        truth, rng = split.y.cpu(), np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        p, q = torch.tensor(rng.beta(*ability, workers)), torch.tensor(rng.uniform(*clarity, n))
        other = (truth + torch.randint(1, classes, (n,), generator=generator)) % classes
        chances = ((1 - p) / classes).view(1, -1, 1).repeat(n, 1, classes)  # (n, workers, C)
        rows, gained = torch.arange(n), p.unsqueeze(0) * q.unsqueeze(1)
        chances[rows, :, truth] += gained
        chances[rows, :, other] += p - gained
        given = torch.multinomial(chances.view(-1, classes), 1, generator=generator).view(n, workers)
        asked = torch.rand(n, workers, generator=generator).argsort(1) < answers
        split.side.update(answers=given.where(asked, -1), confusing=other, clarity=q)
        votes = torch.nn.functional.one_hot(given, classes).mul(asked.unsqueeze(2)).sum(1)
        split.relabel((votes + torch.rand(n, classes, generator=generator) / 2).argmax(1))

    return corrupt
