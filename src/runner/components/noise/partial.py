"""Noisy partial labels: each sample comes with a set of candidate labels, which may even lack the true one."""

import torch

from runner import card

CARD = card(
    paper="alim2023",
    arxiv="2301.12077",
    source="Xu et al. 2023, section 4.1; authors' code zeroQiaoba/ALIM, utils/utils_algo.py (noisy_type flip)",
    off={"q": 0.0, "eta": 0.0},
    tasks=("classification",),
)


def build(q: float = 0.3, eta: float = 0.3):
    """`side["candidates"]` (n, C) holds the sets; the label becomes one candidate drawn at random, for methods that take no sets.

    Args:
        q: in [0, 1]; chance of each wrong label to be a candidate.
        eta: in [0, 1]; share of the sets in which a wrong label that was no candidate takes the place of the true one; full sets stay as they are.
    """

    def corrupt(data, generator):
        split, n, classes = data.train, len(data.train), data.info.outputs
        truth = split.y.cpu()
        candidates = torch.rand(n, classes, generator=generator) < q
        candidates[torch.arange(n), truth] = True
        wrong = (torch.rand(n, generator=generator) < eta) & ~candidates.all(1)
        rows = wrong.nonzero()[:, 0]
        if len(rows):
            added = torch.multinomial((~candidates[rows]).float(), 1, generator=generator)[:, 0]
            candidates[rows, truth[rows]], candidates[rows, added] = False, True
        split.side["candidates"] = candidates
        split.relabel(torch.multinomial(candidates.float(), 1, generator=generator)[:, 0])

    return corrupt
