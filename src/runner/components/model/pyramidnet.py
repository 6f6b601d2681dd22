"""Pyramidal residual network for small images: each block has a few channels more than the one before."""

from itertools import accumulate

from torch import nn
from torch.nn import functional as F

from runner import card
from runner.components.model._residual import conv, he_init

CARD = card(
    paper="pyramidnet2017", arxiv="1610.02915",
    source="Han, Kim & Kim 2017; with bottlenecks as CutMix has it (1905.04899, section 4.1.2), clovaai/CutMix-PyTorch, pyramidnet.py", images=True,
)  # fmt: skip


class Bottleneck(nn.Module):
    """x + BN(conv1x1(relu(BN(conv3x3(relu(BN(conv1x1(BN(x))))))))), the channels that x has not being 0 in it, x halved by means where the block strides."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int):
        super().__init__()
        self.stride = stride
        self.path = nn.Sequential(
            nn.BatchNorm2d(inputs), conv(inputs, width, 1),
            nn.BatchNorm2d(width), nn.ReLU(), conv(width, width, 3, stride),
            nn.BatchNorm2d(width), nn.ReLU(), conv(width, outputs, 1),
            nn.BatchNorm2d(outputs),
        )  # fmt: skip

    def forward(self, x):
        out = self.path(x)
        x = F.avg_pool2d(x, 2, ceil_mode=True) if self.stride > 1 else x
        return out + F.pad(x, (0, 0, 0, 0, 0, out.shape[1] - x.shape[1]))


class PyramidNet(nn.Module):
    def __init__(self, channels, outputs, count, widening):
        super().__init__()
        step = widening / (3 * count)
        widths = [round(w) for w in accumulate([step] * 3 * count, initial=16.0)][1:]
        self.stem = nn.Sequential(conv(channels, 16, 3), nn.BatchNorm2d(16))
        blocks, last = [], 16
        for k, width in enumerate(widths):
            blocks.append(Bottleneck(last, width, 4 * width, 2 if k in (count, 2 * count) else 1))
            last = 4 * width
        self.blocks, self.norm = nn.Sequential(*blocks), nn.BatchNorm2d(last)
        self.apply(he_init)
        self.head = nn.Linear(last, outputs)

    def forward(self, x):
        return self.head(F.relu(self.norm(self.blocks(self.stem(x)))).mean((2, 3)))


def build(depth: int = 20, widening: int = 48):
    """Images (B, channels, H, W) to logits (B, C): three stages of bottleneck blocks, whose widths grow evenly from 16 to 16 + widening, times 4 at the end.

    Args:
        depth: >= 11; layers: 9n + 2 (200 for CIFAR in CutMix).
        widening: >= 1; channels by which the blocks grow on the whole (240 for CIFAR in CutMix).
    """
    if (depth - 2) % 9:
        raise ValueError(f"depth={depth} is not 9n + 2 (20, 110, 164, 200)")

    def make(info, softmax):
        del softmax
        return PyramidNet(info.shape[0], info.outputs, (depth - 2) // 9, widening)

    return make
