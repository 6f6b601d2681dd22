"""Several annotators: each labels every sample, wrong independently of the others given the true class."""

from typing import Literal

import torch

from runner import card
from runner.components.noise._transition import draw

CARD = card(
    paper="identifiability2023",
    arxiv="2202.02016",
    source="Liu, Cheng & Zhang 2023, section 2: p conditionally independent labels with one transition matrix",
    off={"count": 1, "rate": 0.0},
    tasks=("classification",),
)


def matrix(kind: str, classes: int, rate: float, generator) -> torch.Tensor:
    """T (C, C) with 1 - rate on its diagonal."""
    eye = torch.eye(classes, dtype=torch.float64)
    if kind == "pair":
        return (1 - rate) * eye + rate * eye.roll(1, 1)
    other = torch.ones(classes, classes, dtype=torch.float64)
    if kind == "random":
        other = -torch.rand(classes, classes, generator=generator, dtype=torch.float64).log()  # rows of a flat Dirichlet distribution
    other = other * (1 - eye)
    return (1 - rate) * eye + rate * other / other.sum(1, keepdim=True)


def build(count: int = 3, rate: float = 0.3, kind: Literal["symmetric", "pair", "random"] = "random"):
    """`side["annotations"]` (n, count) holds their labels; the first one's become the labels of the split.

    Args:
        count: >= 1; annotators.
        rate: in [0, 1]; of each one's errors.
        kind: what a class is mistaken for: any other, the next one, or others with chances drawn at random for each class.
    """

    def corrupt(data, generator):
        split = data.train
        transition = matrix(kind, data.info.outputs, rate, generator)
        split.side["annotations"] = torch.stack([draw(split.y, transition, generator) for _ in range(count)], 1)
        split.relabel(split.side["annotations"][:, 0])

    return corrupt
