"""U-Net: a contracting path, a bottleneck, and an expanding path that gets back what the contracting one saw at each resolution."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from runner import UserError, card

CARD = card(
    paper="unet2015",
    arxiv="1505.04597",
    source="Ronneberger et al. 2015, with padded convolutions, normalisation and interpolation before a convolution in place of a transposed one",
    tasks=("segmentation",),
)


def block(channels: int, out: int, norm: str) -> nn.Sequential:
    """Two 3x3 convolutions, each normalised and rectified."""
    layers = []
    for inputs in (channels, out):
        normalise = nn.BatchNorm2d(out) if norm == "batch" else nn.GroupNorm(4, out)
        layers += [nn.Conv2d(inputs, out, 3, padding=1, bias=False), normalise, nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """`bottleneck` is the innermost block; what it returns (n, width 2^depth, H / 2^depth, W / 2^depth) are the features of an image."""

    def __init__(self, channels: int, outputs: int, width: int, depth: int, norm: str):
        super().__init__()
        widths = [width * 2**k for k in range(depth + 1)]
        self.down = nn.ModuleList(block(a, b, norm) for a, b in zip([channels, *widths], widths[:-1], strict=False))
        self.bottleneck = block(widths[-2], widths[-1], norm)
        self.up = nn.ModuleList(block(a + b, b, norm) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, x):
        skips = []
        for layer in self.down:
            skips.append(layer(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bottleneck(x)
        for layer in self.up:
            skip = skips.pop()
            x = layer(torch.cat([skip, F.interpolate(x, size=skip.shape[-2:])], 1))  # to the size of the skip: sides need not be even
        return self.head(x).movedim(1, -1)


def build(width: int = 16, depth: int = 2, norm: Literal["group", "batch"] = "group"):
    """Logits (n, H, W, classes) for images (n, channels, H, W) of any size from 2^depth pixels on.

    Args:
        width: >= 4; channels at the full resolution, doubled at each halving of it.
        depth: >= 1; halvings.
        norm: group normalisation (four groups), which does not hang on the batch, or batch normalisation.
    """
    if norm == "group" and width % 4:
        raise ValueError(f"width={width} does not divide into the four groups of norm=group")

    def make(info, softmax):
        del softmax
        if min(info.shape[1:]) < 2**depth:
            raise UserError(f"model=unet: depth={depth} halves the side {depth} times; images of {info.shape[1]}x{info.shape[2]} are too small for it")
        return UNet(info.shape[0], info.outputs, width, depth, norm)

    return make
