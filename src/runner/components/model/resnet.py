"""Residual networks for small images: 6n + 2 layers (He et al. 2016), or ResNet-18 and -34 with a 3x3 stem."""

from runner import card
from runner.components.model._residual import Block, PreBlock, Residual

CARD = card(
    paper="resnet2016",
    arxiv="1512.03385",
    source="section 4.2; preact: arXiv 1603.05027 and KaimingHe/resnet-1k-layers; 18 and 34: table 1 with a stem of 3x3, stride 1, no pooling",
    images=True,
)
LARGE = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3]}


def build(depth: int = 20, preact: bool = False, project: bool = False, width: int | None = None):
    """Depth 20, 32, 44, 56, 110, ...: stages of 16, 32, 64 channels, shortcuts without parameters. Depth 18, 34: 64 to 512, projections.

    Args:
        depth: >= 8; layers: 6n + 2, or 18 or 34 for the form that papers on noisy labels use.
        preact: normalisation and activation before each convolution (He et al. 2016b); shortcuts that change shape are projections.
        project: projections also at depth 6n + 2, each a 1x1 convolution with normalisation (option B), as facebookresearch/open_lth has them.
        width: >= 1; channels of the first stage, doubled by each later one; 16, or 64 at depth 18 and 34, if not given.
    """
    if depth not in LARGE and (depth - 2) % 6:
        raise ValueError(f"depth={depth} is neither 6n + 2 (20, 32, 44, 56, 110) nor 18 or 34")
    large = depth in LARGE
    first = width or (64 if large else 16)
    widths = [first, *(first * 2**stage for stage in range(4 if large else 3))]
    counts = LARGE[depth] if large else [(depth - 2) // 6] * 3
    block = PreBlock if preact else lambda *shape: Block(*shape, project=large or project)

    def make(info, softmax):
        del softmax
        return Residual(info.shape[0], info.outputs, widths, counts, block, preact)

    return make
