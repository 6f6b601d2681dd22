"""Small convolutional network: blocks of 3x3 convolution, ReLU and 2x2 pooling, then a linear layer."""

from torch import nn

from runner import UserError, card

CARD = card(images=True)


def build(width: int = 32, depth: int = 2, batch_norm: bool = False):
    """`depth` blocks, each with twice the channels of the one before and half its side; torch's own initialisation.

    Args:
        width: >= 1; channels of the first block.
        depth: >= 1; blocks.
        batch_norm: normalise over the batch between convolution and ReLU.
    """

    def make(info, softmax):
        del softmax
        channels, height, wide = info.shape
        if min(height, wide) < 2**depth:
            most = min(height, wide).bit_length() - 1
            raise UserError(f"model=cnn: depth={depth} halves the side {depth} times; images of {height}x{wide} allow depth={most}")
        layers = []
        for block in range(depth):
            out = width * 2**block
            layers += [nn.Conv2d(channels, out, 3, padding=1, bias=not batch_norm), *([nn.BatchNorm2d(out)] if batch_norm else []), nn.ReLU(), nn.MaxPool2d(2)]
            channels = out
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * (height >> depth) * (wide >> depth), info.outputs))

    return make
