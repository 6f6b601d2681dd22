"""Asymmetric label noise: classes are mistaken for the one that resembles them."""

from typing import Literal

import torch

from runner import UserError, card
from runner.components.noise._transition import draw

CARD = card(
    arxiv="1609.03683",
    source="Patrini et al. 2017, section 5; authors' code giorgiop/loss-correction, noise.py",
    off={"rate": 0.0},
    tasks=("classification",),
)

CIFAR10 = {9: 1, 2: 0, 3: 5, 5: 3, 4: 7}  # truck -> automobile, bird -> airplane, cat <-> dog, deer -> horse
# the superclass of each fine class of CIFAR-100, both in alphabetical order
CIFAR100 = (
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7,
    6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10,
    16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16,
    12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
)  # fmt: skip


def goals(name: str, classes: int) -> list[int]:
    """For each class the one that it is mistaken for; itself where it is not."""
    name = {10: "cifar10", 100: "cifar100"}.get(classes, "next") if name == "auto" else name
    if name == "next":
        return [(c + 1) % classes for c in range(classes)]
    if classes != {"cifar10": 10, "cifar100": 100}[name]:
        raise UserError(f"noise.map={name} is for {name.removeprefix('cifar')} classes; the data has {classes}")
    if name == "cifar10":
        return [CIFAR10.get(c, c) for c in range(10)]
    members = [[c for c in range(100) if CIFAR100[c] == CIFAR100[k]] for k in range(100)]
    return [members[c][(members[c].index(c) + 1) % 5] for c in range(100)]


def build(rate: float = 0.4, map: Literal["auto", "cifar10", "cifar100", "next"] = "auto"):
    """T[y, map(y)] = rate, T[y, y] = 1 - rate; classes that the map leaves alone stay clean.

    The authors' CIFAR-100 code takes five consecutive class indices for a superclass, which in the data set's order they are not;
    here the flips stay within the true superclasses, as the paper says.

    Args:
        rate: in [0, 1]; share of the labels that are replaced, in each class that has a look-alike.
        map: cifar10 (five of the ten classes), cifar100 (circular within each of the 20 superclasses), next (class + 1), or auto (by the number of classes).
    """

    def corrupt(data, generator):
        classes = data.info.outputs
        matrix = torch.eye(classes) * (1 - rate)
        matrix[torch.arange(classes), torch.tensor(goals(map, classes))] += rate
        data.train.relabel(draw(data.train.y, matrix, generator))

    return corrupt
