"""Fast R-CNN on a feature pyramid, over the regions that a data set names: a ResNet, RoIAlign at the level that fits a region's size, two layers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runner import UserError, card
from runner.components._learned import bring
from runner.components._torchvision import check, trained

CARD = card(
    paper="fpn2017",
    arxiv="1612.03144",
    source="Lin et al. 2017, section 4.2, without the regression of boxes; frozen stages, pooling and initial weights as facebookresearch/detectron2, "
    "configs/Base-RCNN-FPN.yaml and config/defaults.py; the network is torchvision's",
    tasks=("detection",),
)
BINS, STRIDES = 7, (4, 8, 16, 32)  # cells of a pooled region on either side; pixels of a cell of each level
TRAINED = 3  # stages of a trained ResNet that go on learning: the stem and the first one do not


def level(boxes: Tensor) -> Tensor:
    """(A,) the level, from 0, at which each box (A, 4) is pooled: the third of those of 224 pixels by 224, one finer where it is half as large; eq. 1."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return (2 + (area.sqrt() / 224 + 1e-8).log2()).floor().long().clamp(0, len(STRIDES) - 1)


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


class RegionFPN(nn.Module):
    def __init__(self, info, network: nn.Module, hidden: int):
        super().__init__()
        self.backbone, width = network, network.out_channels * BINS**2
        self.head = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.classifier = nn.Linear(hidden, info.outputs)
        for layer in (self.head[0], self.head[2]):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)
        boxes = torch.tensor(info.regions)
        levels = level(boxes)
        order = levels.argsort(stable=True)  # one level after the other
        self.counts = levels.bincount(minlength=len(STRIDES)).tolist()
        self.register_buffer("boxes", boxes[order], persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)

    def forward(self, x):
        from torchvision.ops import roi_align

        n, last = len(x), STRIDES[-1]
        x = F.pad(x, (0, -x.shape[-1] % last, 0, -x.shape[-2] % last))  # so that cells are of whole strides
        pooled = [
            roi_align(z, [own] * n, BINS, 1 / stride, aligned=True).view(n, len(own), -1)
            for z, own, stride in zip(list(self.backbone(x).values())[: len(STRIDES)], self.boxes.split(self.counts), STRIDES, strict=True)
            if len(own)
        ]
        return self.classifier(self.head(torch.cat(pooled, 1)))[:, self.back]


def build(arch: str, weights: str | None = None, hidden: int = 1024):
    """Logits (n, regions, classes) for images (n, 3, H, W), of the regions of `info`; class 0 is that nothing is there.

    A region is pooled to 7 x 7 cells of 256 channels. Images are filled up with zeros to multiples of 32 pixels.

    Args:
        arch: torchvision's name of a ResNet, such as resnet50.
        weights: that the ResNet starts from, by torchvision's name such as IMAGENET1K_V1: a file in torch.hub's cache, fetched where there is a network.
            Its stem, its first stage and all its batch normalisation stay as they are. Random ones if not given, all of which learn.
        hidden: >= 1; units of the two layers before the classifier.
    """
    from torchvision.models import resnet

    check(arch, weights)
    if arch not in resnet.__all__:
        raise ValueError(f"arch={arch} is no ResNet; choose one such as resnet50")

    def make(info, softmax):
        del softmax
        if not info.regions:
            raise UserError("model=region_fpn classifies the regions that data name, as data=coco; this one has none")
        if info.shape[0] != 3:
            raise UserError(f"model=region_fpn takes images of 3 channels, not {info.shape[0]}")
        return RegionFPN(info, backbone(arch, weights), hidden)

    return make
