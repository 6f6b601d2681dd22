"""Fast R-CNN's head over the regions that a data set names: one pass over the image, then a classifier of what each region pools of it."""

import torch
from torch import Tensor, nn

from runner import UserError, card

CARD = card(
    paper="fastrcnn2015",
    arxiv="1504.08083",
    source="Girshick 2015, without the regression of boxes; regions are pooled by exact areas, in the manner of Jiang et al. 2018 (1807.11590)",
    tasks=("detection",),
)
STRIDE = 4  # pixels of a cell of the features, on either side


def shares(low: Tensor, high: Tensor, bins: int, cells: int) -> Tensor:
    """(A, bins, cells): the share of each of the equal bins of the intervals [low, high] (A,), in cells, that lies in each cell of width 1."""
    edges = low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, bins + 1)
    start, end = edges[:, :-1, None], edges[:, 1:, None]
    cell = torch.arange(cells)
    return (torch.minimum(end, cell + 1) - torch.maximum(start, cell)).clamp_min(0) / (end - start)


class RegionCNN(nn.Module):
    """`features` sees the image, `head` (A regions, each bins^2 cells of its features) what is pooled of it."""

    def __init__(self, info, width: int, bins: int, hidden: int):
        super().__init__()
        channels, height, wide = info.shape
        layers = []
        for k, (a, b) in enumerate(((channels, width), (width, 2 * width), (2 * width, 2 * width))):
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.GroupNorm(4, b), nn.ReLU(), *([nn.AvgPool2d(2)] if k < 2 else [])]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(2 * width * bins**2, hidden), nn.ReLU(), nn.Linear(hidden, info.outputs))
        x0, y0, x1, y1 = (torch.tensor(info.regions) / STRIDE).T
        rows, columns = shares(y0, y1, bins, height // STRIDE), shares(x0, x1, bins, wide // STRIDE)
        self.register_buffer("pool", torch.einsum("aph,aqw->apqhw", rows, columns).flatten(3).flatten(0, 2), persistent=False)  # (A bins^2, cells)
        self.regions = len(info.regions)

    def forward(self, x):
        z = self.features(x).flatten(2) @ self.pool.T  # (n, channels, A bins^2)
        n, channels, _ = z.shape
        return self.head(z.view(n, channels, self.regions, -1).movedim(1, 2).flatten(2))


def build(width: int = 16, bins: int = 3, hidden: int = 64):
    """Logits (n, regions, classes) for images (n, channels, H, W), H and W multiples of 4, of the regions of `info`; class 0 is that nothing is there.

    Args:
        width: >= 4; a multiple of 4; channels of the first convolution; the others have twice as many.
        bins: >= 1; a region is pooled to bins x bins cells.
        hidden: >= 1; units of the layer before the classifier.
    """
    if width % 4:
        raise ValueError(f"width={width} is no multiple of 4")

    def make(info, softmax):
        del softmax
        if not info.regions:
            raise UserError("model=region_cnn classifies the regions that data name, as data=scenes; this one has none")
        if info.shape[1] % STRIDE or info.shape[2] % STRIDE:
            raise UserError(f"model=region_cnn needs images with sides that are multiples of {STRIDE}; these are {info.shape[1]}x{info.shape[2]}")
        return RegionCNN(info, width, bins, hidden)

    return make
