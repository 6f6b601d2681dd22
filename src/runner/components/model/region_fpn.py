"""Fast R-CNN on a feature pyramid, over the regions that a data set names: a ResNet, RoIAlign at the level that fits a region's size, two layers."""

import torch
from torch import nn

from runner import UserError, card
from runner.components.model._fpn import BINS, STRIDES, backbone, begin, check_colours, check_resnet, level, two_layers, whole_strides

CARD = card(
    paper="fpn2017",
    arxiv="1612.03144",
    source="Lin et al. 2017, section 4.2, without the regression of boxes; frozen stages, pooling and initial weights as facebookresearch/detectron2, "
    "configs/Base-RCNN-FPN.yaml and config/defaults.py; the network is torchvision's",
    tasks=("detection",),
)


class RegionFPN(nn.Module):
    def __init__(self, info, network: nn.Module, hidden: int):
        super().__init__()
        self.backbone, width = network, network.out_channels * BINS**2
        self.head, self.classifier = two_layers(width, hidden), nn.Linear(hidden, info.outputs)
        begin(self.head, {self.classifier: 0.01})
        boxes = torch.tensor(info.regions)
        levels = level(boxes)
        order = levels.argsort(stable=True)  # one level after the other
        self.counts = levels.bincount(minlength=len(STRIDES)).tolist()
        self.register_buffer("boxes", boxes[order], persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)

    def forward(self, x):
        from torchvision.ops import roi_align

        n, x = len(x), whole_strides(x)
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
    check_resnet(arch, weights)

    def make(info, softmax):
        del softmax
        if not info.regions:
            raise UserError("model=region_fpn classifies the regions that data name, as data=coco; this one has none")
        check_colours(info, "region_fpn")
        return RegionFPN(info, backbone(arch, weights), hidden)

    return make
