"""Symmetric label noise: a share of the labels is replaced by a class drawn uniformly."""

import torch

from runner import card
from runner.components.noise._transition import draw

CARD = card(
    arxiv="1609.03683", source="Patrini et al. 2017, section 5; ELR's code keeps the own class (`inclusive`)", off={"rate": 0.0}, tasks=("classification",)
)


def build(rate: float = 0.4, inclusive: bool = False):
    """T[y, y] = 1 - rate, the rest shared by the other classes.

    Args:
        rate: in [0, 1]; share of the labels that are replaced.
        inclusive: draw the replacement from all classes, so that some labels stay right (used by ELR and DivideMix).
    """

    def corrupt(data, generator):
        classes = data.info.outputs
        share = rate / classes if inclusive else rate / (classes - 1)
        matrix = torch.full((classes, classes), share)
        matrix.fill_diagonal_(1 - rate + share if inclusive else 1 - rate)
        data.train.relabel(draw(data.train.y, matrix, generator))

    return corrupt
