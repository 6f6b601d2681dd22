"""Pair flips: each class is mistaken for the next one only."""

import torch

from runner import card
from runner.components.noise._transition import draw

CARD = card(arxiv="1804.06872", source="Han et al. 2018, figure 2; code bhanML/Co-teaching, data/utils.py", off={"rate": 0.0}, tasks=("classification",))


def build(rate: float = 0.45):
    """T[y, y] = 1 - rate, T[y, y + 1 mod C] = rate.

    Args:
        rate: in [0, 1]; share of the labels that are replaced (0.45 in the paper).
    """

    def corrupt(data, generator):
        eye = torch.eye(data.info.outputs)
        data.train.relabel(draw(data.train.y, (1 - rate) * eye + rate * eye.roll(1, 1), generator))

    return corrupt
