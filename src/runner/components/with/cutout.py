"""Cutout: a square of each training image is blanked."""

import torch

from runner import card

CARD = card(
    paper="cutout2017", arxiv="1708.04552",
    source="DeVries & Taylor 2017, section 3.2: sides 16 for CIFAR-10, 8 for CIFAR-100; the square may reach beyond the image",
    off={"side": 0}, rung={"batch": "mix"}, images=True,
)  # fmt: skip


class Cutout:
    def __init__(self, side):
        self.side = side

    def batch(self, state, batch):
        if not self.side:
            return
        n, _, height, width = batch.x.shape
        stream = state.rng("with/cutout")
        spans = []
        for extent in (height, width):
            begin = torch.randint(extent, (n, 1), generator=stream) - self.side // 2
            place = torch.arange(extent)
            spans.append((place >= begin) & (place < begin + self.side))
        hidden = spans[0].unsqueeze(2) & spans[1].unsqueeze(1)
        batch.x = batch.x.masked_fill(hidden.unsqueeze(1).to(batch.x.device), 0)


def build(side: int = 16):
    """Zeros in a square around a uniformly drawn pixel, another one for each image.

    Args:
        side: >= 0; pixels of a side of the square.
    """
    return Cutout(side)
