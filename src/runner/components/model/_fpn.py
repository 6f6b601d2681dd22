"""What detectors on a feature pyramid share: the ResNet, pooling of regions at the level that fits their size, the two layers behind it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runner import UserError
from runner.components._learned import bring
from runner.components._torchvision import check, trained

BINS, STRIDES = 7, (4, 8, 16, 32)  # cells of a pooled region on either side; pixels of a cell of each level
TRAINED = 3  # stages of a trained ResNet that go on learning: the stem and the first one do not


def check_resnet(arch: str, weights: str | None) -> None:
    """Raises ValueError for what is no ResNet of torchvision's, or no weights of it."""
    from torchvision.models import resnet

    check(arch, weights)
    if arch not in resnet.__all__:
        raise ValueError(f"arch={arch} is no ResNet; choose one such as resnet50")


def check_colours(info, name: str) -> None:
    if info.shape[0] != 3:
        raise UserError(f"model={name} takes images of 3 channels, not {info.shape[0]}")


def backbone(arch: str, weights: str | None) -> nn.Module:
    """Images (n, 3, H, W) to the levels (n, 256, H / 4, W / 4), ... of the pyramid. Trained weights come with fixed statistics, scales and shifts."""
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    if weights is None:
        return resnet_fpn_backbone(backbone_name=arch, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5)
    stored = trained(arch, weights).state_dict()
    network = resnet_fpn_backbone(backbone_name=arch, weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=TRAINED)
    network.body.load_state_dict({name: stored[name] for name in network.body.state_dict()})
    bring(network.body)
    return network


def two_layers(width: int, hidden: int) -> nn.Sequential:
    """Pooled regions (..., width) to (..., hidden)."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())


def begin(head: nn.Sequential, last: dict[nn.Linear, float]) -> None:
    """First weights as detectron2's: c2_xavier_fill for the two layers, normal ones of the deviations given for those behind; all shifts 0."""
    for layer in (head[0], head[2]):
        nn.init.kaiming_uniform_(layer.weight, a=1)
    for layer, deviation in last.items():
        nn.init.normal_(layer.weight, std=deviation)
    for layer in (head[0], head[2], *last):
        nn.init.zeros_(layer.bias)


def whole_strides(x: Tensor) -> Tensor:
    """Images filled up with zeros on the right and below, so that cells are of whole strides."""
    return F.pad(x, (0, -x.shape[-1] % STRIDES[-1], 0, -x.shape[-2] % STRIDES[-1]))


def level(boxes: Tensor) -> Tensor:
    """(A,) the level, from 0, at which each box (A, 4) is pooled: the third of those of 224 pixels by 224, one finer where it is half as large; eq. 1."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return (2 + (area.sqrt() / 224 + 1e-8).log2()).floor().long().clamp(0, len(STRIDES) - 1)


def pool(levels: list[Tensor], boxes: list[Tensor]) -> Tensor:
    """(A, 256 BINS^2): what the boxes (a, 4) of each image, A in all, cover of the level that fits each of them."""
    from torchvision.ops import roi_align

    image = torch.cat([own.new_full((len(own), 1), k) for k, own in enumerate(boxes)])
    rows, which = torch.cat([image, torch.cat(boxes)], 1), level(torch.cat(boxes))
    order = [(which == k).nonzero()[:, 0] for k in range(len(STRIDES))]
    pooled = [roi_align(z, rows[own], BINS, 1 / s, aligned=True).flatten(1) for z, own, s in zip(levels, order, STRIDES, strict=False)]
    return torch.cat(pooled)[torch.cat(order).argsort()]
