"""Bags of labelled instances: what the data sets of simulated bags share."""

import math

import torch
from torch import Tensor

from runner.core.data import Split


def fill(pool: Tensor, counts: list[int], generator: torch.Generator) -> list[Tensor]:
    """So many entries of the pool for each bag: none twice before all were used once."""
    need = sum(counts)
    rounds = [pool[torch.randperm(len(pool), generator=generator)] for _ in range(-(-need // len(pool)))]
    return list((torch.cat(rounds) if rounds else pool[:0])[:need].split(counts))


def make(x: Tensor, kind: Tensor, bags: int, size: int, positive: list[int], low: float, high: float, label: str, sigma: float, g: torch.Generator) -> Split:
    """Bags one after another. `y` is what is known of the bag, repeated for its instances; `clean` whether the instance is positive."""
    share = low + (high - low) * torch.rand(bags, generator=g)
    counts = (share * size).round().long().clamp(min(1, math.ceil(high * size)), size)
    if label == "any":
        counts[bags - bags // 2 :] = 0  # the second half is negative
    own = torch.isin(kind, torch.tensor(positive))
    if own.all() or not own.any():
        raise ValueError(f"positive={positive} makes {'all' if own.any() else 'none'} of the instances positive; bags need both kinds")
    rows = [own.nonzero()[:, 0], (~own).nonzero()[:, 0]]
    parts = [fill(rows[0], counts.tolist(), g), fill(rows[1], (size - counts).tolist(), g)]
    rows = torch.cat([torch.cat(pair) for pair in zip(*parts, strict=True)])
    truth, known = own[rows].long(), (counts > 0).long()
    if label == "share":
        noise = sigma * torch.randn(bags, generator=g)
        truth, known = truth.float()[:, None], (counts / size + noise).clamp(0, 1)[:, None]
    split = Split(x[rows], truth)
    split.relabel(known.repeat_interleave(size, 0))
    split.side["bag"] = torch.arange(bags).repeat_interleave(size)
    return split
