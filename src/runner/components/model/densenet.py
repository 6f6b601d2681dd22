"""DenseNet for small images: each layer is given what all layers of its block before it gave."""

import torch
from torch import nn
from torch.nn import functional as F

from runner import card
from runner.components.model._residual import conv, he_init

CARD = card(
    paper="densenet2017", arxiv="1608.06993",
    source="section 3, without bottleneck and compression; authors' code liuzhuang13/DenseNet, models/densenet.lua (16 channels first, as in the paper)",
    images=True,
)  # fmt: skip


class Layer(nn.Module):
    """dropout(conv(relu(BN(x)))); a dense one is given behind x, another is halved in width and height."""

    def __init__(self, inputs: int, outputs: int, size: int, dropout: float):
        super().__init__()
        self.norm, self.conv, self.drop, self.dense = nn.BatchNorm2d(inputs), conv(inputs, outputs, size), nn.Dropout(dropout), size > 1

    def forward(self, x):
        out = self.drop(self.conv(F.relu(self.norm(x))))
        return torch.cat([x, out], 1) if self.dense else F.avg_pool2d(out, 2)


class DenseNet(nn.Module):
    def __init__(self, channels, outputs, count, growth, dropout):
        super().__init__()
        layers, width = [], 16
        self.stem = conv(channels, width, 3)
        for block in range(3):
            if block:
                layers.append(Layer(width, width, 1, dropout))
            layers += [Layer(width + k * growth, growth, 3, dropout) for k in range(count)]
            width += count * growth
        self.layers, self.norm, self.head = nn.Sequential(*layers), nn.BatchNorm2d(width), nn.Linear(width, outputs)
        self.apply(he_init)

    def forward(self, x):
        return self.head(F.relu(self.norm(self.layers(self.stem(x)))).mean((2, 3)))


def build(depth: int = 13, growth: int = 12, dropout: float = 0.0):
    """Images (B, channels, H, W), H and W of at least 4, to logits (B, C): three dense blocks, a 1x1 convolution and a mean over 2x2 between them.

    Args:
        depth: >= 7; layers: 3n + 4; 40 is the paper's smallest.
        growth: >= 1; channels that each layer adds (12 or 24 in the paper).
        dropout: in [0, 1); after each convolution but the first (0.2 in the paper where nothing is augmented).
    """
    if (depth - 4) % 3:
        raise ValueError(f"depth={depth} is not 3n + 4 (13, 40, 100)")

    def make(info, softmax):
        del softmax
        return DenseNet(info.shape[0], info.outputs, (depth - 4) // 3, growth, dropout)

    return make
