"""torchvision's own Faster R-CNN with the weights and the numbers of model=faster_rcnn, for comparison."""

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign, roi_align


class Aligned(MultiScaleRoIAlign):
    """detectron2's pooling, box by box: torchvision's own pools half a cell further right and down, and boxes smaller than a cell as if they were one."""

    def forward(self, features, proposals, shapes):
        pooled = []
        for i, boxes in enumerate(proposals):
            for box in boxes:
                k = int((4 + torch.log2(((box[2] - box[0]) * (box[3] - box[1])).sqrt() / 224 + 1e-6)).floor().clamp(2, 5))
                pooled.append(roi_align(features[str(k - 2)][i : i + 1], [box[None]], 7, 1 / 2**k, aligned=True))
        return torch.cat(pooled)


class Predictor(nn.Module):
    """Moves are the same for all classes."""

    def __init__(self, ours):
        super().__init__()
        self.classifier, self.mover = ours.classifier, ours.mover

    def forward(self, x):
        z = self.classifier(x)
        return z, self.mover(x).repeat(1, z.shape[1])


def of(ours, arch: str, hidden: int, proposals: int, **options) -> FasterRCNN:
    """Its classifier and mover are those of ours, all other weights are copied."""
    backbone = resnet_fpn_backbone(backbone_name=arch, weights=None, norm_layer=nn.BatchNorm2d)
    anchors = AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    theirs = FasterRCNN(
        backbone, rpn_anchor_generator=anchors, box_roi_pool=Aligned([*"0123"], 7, 0), box_head=TwoMLPHead(256 * 49, hidden), box_predictor=Predictor(ours),
        rpn_post_nms_top_n_train=proposals, rpn_post_nms_top_n_test=proposals, **options,
    )  # fmt: skip
    theirs.backbone.load_state_dict(ours.backbone.state_dict())
    theirs.rpn.head.load_state_dict(ours.rpn.head.state_dict())
    for layer, k in ((theirs.roi_heads.box_head.fc6, 0), (theirs.roi_heads.box_head.fc7, 2)):
        layer.load_state_dict(ours.head[k].state_dict())
    return theirs


def run(theirs: FasterRCNN, x, targets=None):
    """Proposals, what comes out of the heads, and losses, without the transforms of images."""
    sizes = [tuple(x.shape[-2:])] * len(x)
    features = theirs.backbone(x)
    proposals, losses = theirs.rpn(ImageList(x, sizes), features, targets)
    found, more = theirs.roi_heads(features, proposals, sizes, targets)
    return proposals, found, {**losses, **more}


def lively(network: nn.Module) -> None:
    """First weights say the same everywhere; larger ones of the last layers tell regions apart."""
    with torch.no_grad():
        for layer, factor in ((network.rpn.head.cls_logits, 30), (network.rpn.head.bbox_pred, 5), (network.classifier, 20), (network.mover, 100)):
            layer.weight *= factor
