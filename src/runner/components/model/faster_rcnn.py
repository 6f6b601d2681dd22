"""Faster R-CNN on a feature pyramid: a network proposes regions, and of each says what it shows and how its box is to be moved."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from runner import UserError, card
from runner.components._boxes import MATCH, MOVES
from runner.components.model._embeddings import ByName, read
from runner.components.model._fpn import BINS, STRIDES, backbone, begin, check_colours, check_resnet, pool, two_layers, whole_strides

CARD = card(
    paper="fasterrcnn2015",
    arxiv="1506.01497",
    source="Ren et al. 2015, on the pyramid of Lin et al. 2017; numbers and first weights as facebookresearch/detectron2, configs/Base-RCNN-FPN.yaml and "
    "config/defaults.py; the parts are torchvision's, whose anchors are rounded to whole pixels. Moves are one for all classes, and `embeddings` "
    "are used, as in wkfdb/MarvelOVD, modeling/roi_heads/fast_rcnn_ssod.py and data/datasets/coco.py",
    tasks=("boxes",),
)
SIDES, RATIOS = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0)  # of anchors: pixels, one a level of the pyramid; heights by widths
BEFORE = {"training": 2000, "testing": 1000}  # likeliest anchors of each level and image that go into non-maximum suppression
OVERLAP, NMS = 0.7, 0.5  # IoU at which a less likely proposal goes, and a less likely detection of the same class


class Seen(NamedTuple):
    """Of n images with A anchors and R chosen regions each.

    Attributes:
        objectness, shifts: (n, A), (n, A, 4) logits of anchors, and moves of their boxes.
        anchors: (A, 4).
        logits, moves: (n, R, classes), (n, R, 4) of the regions.
    """

    objectness: Tensor
    shifts: Tensor
    anchors: Tensor
    logits: Tensor
    moves: Tensor


class FasterRCNN(nn.Module):
    def __init__(self, info, network: nn.Module, hidden: int, rows: Tensor | None, proposals: int, least: float, detections: int):
        from torchvision.models.detection.roi_heads import RoIHeads
        from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead

        super().__init__()
        self.backbone, self.detections = network, detections
        anchors, after = AnchorGenerator(tuple((s,) for s in SIDES), (RATIOS,) * len(SIDES)), dict.fromkeys(BEFORE, proposals)
        # what they take for training is the learner's affair
        self.rpn = RegionProposalNetwork(anchors, RPNHead(network.out_channels, len(RATIOS)), 0.7, 0.3, 256, 0.5, BEFORE, after, OVERLAP)
        self.final = RoIHeads(None, None, None, MATCH, MATCH, 512, 0.25, MOVES, least, NMS, detections)
        self.head, self.mover = two_layers(network.out_channels * BINS**2, hidden), nn.Linear(hidden, 4)
        self.classifier = nn.Linear(hidden, info.outputs) if rows is None else ByName(hidden, rows)
        begin(self.head, {self.classifier if rows is None else self.classifier.layer: 0.01, self.mover: 0.001})

    def forward(self, x, regions: Tensor | None = None, choose: Callable | None = None):
        sizes = [tuple(x.shape[-2:])] * len(x)
        x = whole_strides(x)
        levels = list(self.backbone(x).values())
        if regions is not None:
            return tuple(v.unflatten(0, regions.shape[:2]) for v in self.judge(levels, list(regions)))
        *found, proposals = self.propose(x, levels, sizes)
        if choose is not None:
            regions = choose(proposals)
            return Seen(*found, *(v.unflatten(0, regions.shape[:2]) for v in self.judge(levels, list(regions))))
        if self.training:
            raise UserError("model=faster_rcnn has no loss of its own; train it with learner=detector")
        return self.detect(*self.judge(levels, proposals), proposals, sizes)

    def judge(self, levels: list[Tensor], regions: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (A, classes) and moves (A, 4) of the regions of all images, one after the other."""
        z = self.head(pool(levels[: len(STRIDES)], regions))
        return self.classifier(z).float(), self.mover(z).float()

    def propose(self, x: Tensor, levels: list[Tensor], sizes: list[tuple[int, int]]):
        """Objectness, shifts and anchors as in `Seen`, and the proposals (p, 4) of each image, the likeliest first."""
        from torchvision.models.detection.image_list import ImageList
        from torchvision.models.detection.rpn import concat_box_prediction_layers

        scores, shifts = self.rpn.head(levels)
        counts = [s[0].numel() for s in scores]
        scores, shifts = (v.float() for v in concat_box_prediction_layers(scores, shifts))
        cells = [torch.empty(z.shape[-2:], device=z.device) for z in levels]  # it takes over their precision: all that counts is how many there are
        anchors = self.rpn.anchor_generator(ImageList(x, sizes), cells)
        boxes = self.rpn.box_coder.decode(shifts.detach(), anchors).view(len(x), -1, 4)
        proposals, _ = self.rpn.filter_proposals(boxes, scores, sizes, counts)
        return scores.view(len(x), -1), shifts.view(len(x), -1, 4), anchors[0], proposals

    def detect(self, logits: Tensor, moves: Tensor, proposals: list[Tensor], sizes) -> Tensor:
        """(n, detections, 6): x0, y0, x1, y1, probability and class, counted from 0, the likeliest first; zeros where there are fewer."""
        found = self.final.postprocess_detections(logits, moves.repeat(1, logits.shape[1]), proposals, sizes)
        table = logits.new_zeros(len(sizes), self.detections, 6)
        for k, (boxes, score, label) in enumerate(zip(*found, strict=True)):
            table[k, : len(boxes)] = torch.cat([boxes, score[:, None], label[:, None] - 1], 1)
        return table


def build(
    arch: str, weights: str | None = None, hidden: int = 1024, embeddings: str | None = None, proposals: int = 1000, least: float = 0.05, detections: int = 100,
):  # fmt: skip
    """Detections (n, detections, 6) for images (n, 3, H, W): x0, y0, x1, y1 in pixels, probability, class from 0; zeros where there are fewer.

    With `regions` (n, R, 4): their logits (n, R, classes), class 0 being that nothing is there, and moves (n, R, 4), the same for all classes. With `choose`,
    a function of the proposals, a list of n tensors (p, 4), that gives such regions: `Seen`. learner=detector trains it.

    Args:
        arch: torchvision's name of a ResNet, such as resnet50.
        weights: that the ResNet starts from, by torchvision's name such as IMAGENET1K_V1: a file in torch.hub's cache, fetched where there is a network.
            Its stem, its first stage and all its batch normalisation stay as they are. Random ones if not given, all of which learn.
        hidden: >= 1; units of the two layers before the classifier.
        embeddings: JSON file whose categories have a name and, as `text_emb` or `embedding`, a list of numbers: fixed weights of the classifier, behind a
            linear layer of as many units; of "nothing there" zeros. A learnt classifier if not given.
        proposals: >= 1; most regions of an image that are looked at.
        least: in [0, 1]; probability above which a box is a detection.
        detections: >= 1; most detections of an image.
    """
    check_resnet(arch, weights)

    def make(info, softmax):
        del softmax
        check_colours(info, "faster_rcnn")
        rows = None if embeddings is None else read(embeddings, getattr(info, "categories", ()))
        return FasterRCNN(info, backbone(arch, weights), hidden, rows, proposals, least, detections)

    return make
