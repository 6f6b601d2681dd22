"""Trains a two-stage detector: which anchors show an object, what each sampled region shows, and how the boxes of both are to be moved."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from runner import UserError, card
from runner.components._boxes import MOVES, mirror
from runner.components.learner._regions import anchors_loss, assign, moves_loss, sample
from runner.components.learner._views import strong as changed

CARD = card(
    paper="fasterrcnn2015",
    arxiv="1506.01497",
    source="Ren et al. 2015; numbers as facebookresearch/detectron2, config/defaults.py (MODEL.RPN, MODEL.ROI_HEADS, INPUT.RANDOM_FLIP; SMOOTH_L1_BETA 0). "
    "`later` and the two views: wkfdb/MarvelOVD, modeling/matcher.py (Matcher2) and data/detection_utils.py. Losses are means over what is sampled of an "
    "image, and then over images: as detectron2's where images give as many samples",
    rung={"batch": "select"},
    owns=("loss", "outputs"),
    tasks=("boxes",),
)


class Targets(NamedTuple):
    """The m objects of an image: which of the batch's targets they are, classes + 1, boxes, and whether they get only regions that no other has."""

    index: Tensor
    label: Tensor
    box: Tensor
    later: Tensor


class Detector:
    def __init__(self, flip, strong, regions, positive, anchors, beta):
        self.flip, self.strong, self.regions, self.positive, self.anchors, self.beta = flip, strong, regions, positive, anchors, beta

    def batch(self, state, batch):
        stream, extra, info, n = state.rng("learner/detector"), batch.extra, state.info, len(batch.i)
        seeds, turned = torch.randint(2**62, (n,), generator=stream), torch.rand(n, generator=stream) < self.flip
        extra["seed"], extra["turned"] = seeds.to(batch.x.device), turned.to(batch.x.device)
        batch.x = torch.where(extra["turned"].view(-1, 1, 1, 1), batch.x.flip(-1), batch.x)
        extra["boxes"] = mirror(state.data.train.side["objects"][batch.i][..., 1:], extra["turned"], info.shape[-1])
        if self.strong:
            if not hasattr(info, "mean"):
                raise UserError("learner.strong is for photographs that data normalised by known numbers, as data=coco; this one has none")
            extra["strong"] = changed(batch.x, info.mean, info.std, int(seeds[0]))

    def draw(self, proposals: Tensor, targets: Targets, stream: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of an image: sampled regions (R, 4), of proposals (p, 4) and objects; their labels, which target each has, and that one's box."""
        regions = torch.cat([proposals, targets.box])
        own = assign(regions, targets.box, targets.later)
        of = lambda values, none: torch.cat([values, values.new_full((1, *values.shape[1:]), none)])[own]  # the last one where there is no target
        label, given, box = of(targets.label, 0), of(targets.index, -1), of(targets.box, 0)
        places = sample(label, self.regions, self.positive, stream)
        return regions[places], label[places], given[places], box[places]

    def compute(self, state, batch):
        extra, n = batch.extra, len(batch.i)
        t = extra.setdefault("targets", batch.t)  # an optimizer that looks twice finds them again
        later = extra.get("later", torch.zeros_like(t, dtype=torch.bool))
        x = torch.cat([batch.x, extra["strong"]]) if "strong" in extra else batch.x
        views, drawn = len(x) // n, []
        targets = [Targets(i := (own > 0).nonzero()[:, 0], own[i], extra["boxes"][k, i], later[k, i]) for k, own in enumerate(t)] * views
        streams = [torch.Generator(x.device).manual_seed(seed) for seed in extra["seed"].tolist()] * views  # an image's own, whichever piece it is in

        def choose(proposals):
            drawn.extend(map(self.draw, proposals, targets, streams))
            return pad_sequence([regions for regions, *_ in drawn], batch_first=True)

        seen = state.model(x, choose=choose)
        found = [anchors_loss(seen.objectness[k], seen.shifts[k], seen.anchors, own.box, self.anchors, self.beta, streams[k]) for k, own in enumerate(targets)]
        beside = lambda v: v.unflatten(0, (views, n)).transpose(0, 1).flatten(1, 2)  # the views of an image, one after the other
        fill = lambda values, none: beside(pad_sequence(list(values), batch_first=True, padding_value=none))
        regions, labels, given, boxes = zip(*drawn, strict=True)
        regions, batch.t, extra["given"], boxes = fill(regions, 0), fill(labels, 0), fill(given, -1), fill(boxes, 0)
        extra["regions"], extra["share"] = regions, fill([torch.full(own.shape, 1 / (views * max(1, len(own))), device=x.device) for own in labels], 0)
        batch.z, moves, some = beside(seen.logits), beside(seen.moves), batch.t > 0
        moved = torch.zeros_like(extra["share"])
        moved[some] = moves_loss(moves[some], regions[some], boxes[some], MOVES, self.beta)
        return torch.stack(found).view(views, n).mean(0) + (extra["share"] * (state.loss(batch.z, batch.t) + moved)).sum(1)


def build(flip: float = 0.5, strong: bool = False, regions: int = 512, positive: float = 0.25, anchors: int = 256, beta: float = 0.0):
    """Losses of anchors and of regions, each of what they show and of how their boxes are to be moved, the run's loss being that of what regions show.

    The model is called with a function that chooses regions of its proposals, as faster_rcnn takes it. Proposals and objects are matched at an IoU of 0.5.
    Labels are classes + 1 of the boxes in side["objects"], 0 for none. Hooks at `batch` may set others: batch.t (B, m) and batch.extra["boxes"] (B, m, 4), as
    mirrored as extra["turned"] (B,) says; those that extra["later"] (B, m) marks are matched to regions no other object has. Hooks at `losses` find batch.z
    (B, R, classes) and batch.t (B, R) of the sampled regions, in extra["regions"] (B, R, 4) their boxes, in extra["given"] (B, R) which target each has, or
    -1, and in extra["share"] (B, R) its share of the image's loss, 0 where there is no region.

    Args:
        flip: in [0, 1]; probability that an image and its boxes are mirrored.
        strong: train on a second view of each image, with other colours, no colours, blur and erased patches; proposals and regions are its own.
        regions: >= 1; sampled of an image, or of each view.
        positive: in [0, 1]; most of them that show an object.
        anchors: >= 2; sampled of an image, or of each view, at most half of them objects.
        beta: >= 0; difference of moves below which it counts squared; 0: absolute everywhere.
    """
    return Detector(flip, strong, regions, positive, anchors, beta)
