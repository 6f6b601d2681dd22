"""Residual blocks of two 3x3 convolutions, and their initialisation: what residual networks share."""

import torch
from torch import nn
from torch.nn import functional as F


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class PadShortcut(nn.Module):
    """He et al. 2016, option A: every second pixel, the new channels zero; no parameters."""

    def __init__(self, extra: int, stride: int):
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


class Block(nn.Module):
    """relu(x + BN(conv(relu(BN(conv(x)))))); where the shape changes the shortcut is option A or, projecting, B."""

    def __init__(self, inputs: int, outputs: int, stride: int, project: bool):
        super().__init__()
        self.conv1, self.norm1 = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if inputs != outputs or stride != 1:
            projection = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)) if project else PadShortcut(outputs - inputs, stride)
            self.shortcut = projection

    def forward(self, x):
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class PreBlock(nn.Module):
    """x + conv(relu(BN(conv(relu(BN(x)))))); where the shape changes a 1x1 convolution shares the first BN and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float = 0.0):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, 3, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs, 3)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        self.shortcut = conv(inputs, outputs, 1, stride) if inputs != outputs or stride != 1 else None

    def forward(self, x):
        out = F.relu(self.norm1(x))
        if self.shortcut is not None:
            x = self.shortcut(out)
        return x + self.conv2(self.drop(F.relu(self.norm2(self.conv1(out)))))


class Residual(nn.Module):
    """A 3x3 convolution, stages of blocks of which each later one halves the side, the mean over pixels, a linear layer.

    Args:
        widths: channels of the first convolution, then of each stage.
        counts: blocks of each stage.
        block: (inputs, outputs, stride) -> block.
        pre: blocks begin with their activation, so one more stands at the end and none after the first convolution.
    """

    def __init__(self, channels: int, outputs: int, widths: list[int], counts: list[int], block, pre: bool):
        super().__init__()
        self.stem = conv(channels, widths[0], 3)
        self.norm = nn.BatchNorm2d(widths[-1] if pre else widths[0])
        self.pre, blocks, last = pre, [], widths[0]
        for stage, (width, count) in enumerate(zip(widths[1:], counts, strict=True)):
            for place in range(count):
                blocks.append(block(last, width, 2 if stage and not place else 1))
                last = width
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(last, outputs)
        self.apply(he_init)

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(self.norm(self.blocks(x))) if self.pre else self.blocks(F.relu(self.norm(x)))
        return self.head(x.mean((2, 3)))


@torch.no_grad()
def he_init(module: nn.Module) -> None:
    """Convolutions N(0, 2 / (k k outputs)), biases zero: He et al. 2015 as in fb.resnet.torch, which the authors used."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        module.bias.zero_()
