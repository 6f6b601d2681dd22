"""Wide residual network WRN-depth-width: few layers of many channels, normalisation and activation before each convolution."""

from runner import card
from runner.components.model._residual import PreBlock, Residual

CARD = card(paper="wrn2016", arxiv="1605.07146", source="table 1; authors' code szagoruyko/wide-residual-networks, models/wide-resnet.lua", images=True)


def build(depth: int = 16, width: int = 2, dropout: float = 0.0):
    """Stages of 16, 32 and 64 times `width` channels; WRN-28-10 is depth=28 width=10.

    Args:
        depth: >= 10; layers: 6n + 4.
        width: >= 1; factor of the channels.
        dropout: in [0, 1); between the two convolutions of a block (0.3 for CIFAR in the paper).
    """
    if (depth - 4) % 6:
        raise ValueError(f"depth={depth} is not 6n + 4 (16, 22, 28, 40)")

    def make(info, softmax):
        del softmax
        widths, counts = [16, 16 * width, 32 * width, 64 * width], [(depth - 4) // 6] * 3
        return Residual(info.shape[0], info.outputs, widths, counts, lambda *shape: PreBlock(*shape, dropout=dropout), True)

    return make
