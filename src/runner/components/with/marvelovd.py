"""MarvelOVD: a detector picks, with its own eyes, which proposals of a classifier of crops it trains on. Wang et al. 2024."""

import importlib

import torch

from runner import Duration, card

boxed = importlib.import_module("runner.components.with._marvelovd")  # `with` is a keyword
confidence = boxed.confidence

CARD = card(
    paper="marvelovd2024",
    arxiv="2407.21465",
    source="authors' code wkfdb/MarvelOVD, modeling: meta_arch/custom_rcnn.py (refine_pseudo_labels), roi_heads/roi_heads2_ssod.py (forward_weak_strong), "
    "fast_rcnn_ssod.py, matcher.py; threshold 0.9. There boxes are given to refine_pseudo_labels in a form that it cannot read; taken as meant. Windows are "
    "seen in one view of an image in place of a weak and a strong one",
    off={"threshold": 2.0},
    rung={"batch": "target", "losses": "correct"},
    tasks=("detection", "boxes"),
    cost=2,
)
MATCH = 0.5  # IoU from which a region stands for a proposal


def assign(y, iou, pseudo, overlap, stratified: bool):
    """Labels (B, A) of all regions, and which proposal each was given to, -1 for none.

    Args:
        y: (B, A) labels of the base classes; 0: nothing.
        iou: (B, A) of a region with the labelled object that it stands for.
        pseudo: (B, A) class of the proposals in use, 0 elsewhere.
        overlap: (A, A) IoU of regions.
        stratified: labelled objects first; else the box that a region overlaps more.
    """
    best, which = (overlap * (pseudo > 0).unsqueeze(1)).max(-1)
    taken = (best >= MATCH) & ((y == 0) | (best > iou) if not stratified else y == 0)
    return torch.where(taken, pseudo.gather(1, which), y), torch.where(taken, which, -1)


class MarvelOVD:
    def __init__(self, threshold, burn_in, mining, reweight, stratified):
        self.threshold, self.burn_in, self.mining, self.reweight, self.stratified = threshold, burn_in, mining, reweight, stratified

    def setup(self, state):
        from torchvision.ops import box_iou

        boxes, train = torch.tensor(state.info.regions, device=state.device), state.data.train
        if not len(boxes):
            train.side.setdefault("proposals", torch.empty(len(train), 0, 6, device=state.device))
            classes = train.side["proposals"][..., 0].long() + 1
            self.novel = classes[classes > 0].unique()
            state.per_sample["mined"] = torch.zeros_like(classes)
            return
        nothing = torch.zeros_like(train.y)
        self.proposed, self.score, self.iou = (train.side.get(name, nothing) for name in ("proposed", "score", "iou"))
        self.overlap, self.novel = box_iou(boxes, boxes), self.proposed[self.proposed > 0].unique()
        state.per_sample["mined"] = nothing.clone()

    def batch(self, state, batch):
        i, late = batch.i, state.step >= state.clock.steps(self.burn_in)
        if not state.info.regions:
            state.per_sample["mined"][i] = boxed.pick(self, state, batch, late)
            return
        proposed, sure = self.proposed[i], self.score[i]
        if late and (self.mining or self.reweight):
            with torch.no_grad():
                p = state.model(batch.x).float().softmax(-1)
        if late and self.mining:
            sure = confidence(sure, p, proposed > 0, batch.y > 0, self.novel)
        pseudo = torch.where(sure >= self.threshold, proposed, 0)
        state.per_sample["mined"][i] = pseudo
        batch.t, given = assign(batch.y, self.iou[i], pseudo, self.overlap, self.stratified)
        if late and self.reweight:
            batch.extra["marvelovd"] = torch.where(given >= 0, 1 - p[..., 0] + sure.gather(1, given.clamp_min(0)), 1.0)

    def losses(self, state, losses, batch):
        if "marvelovd" not in batch.extra:
            return losses
        if not state.info.regions:
            weights = boxed.weigh(state, batch, state.step >= state.clock.steps(self.burn_in))
            return losses + (batch.extra["share"] * (weights - 1) * state.loss(batch.z, batch.t)).sum(1)
        return losses + ((batch.extra["marvelovd"] - 1) * state.loss(batch.z, batch.t)).mean(1)


def build(threshold: float = 0.9, burn_in: Duration = "5ep", mining: bool = True, reweight: bool = True, stratified: bool = True):
    """Regions that overlap a proposal in use by an IoU of 0.5 are trained as its class. `per_sample["mined"]` (n, regions): those in use, 0 elsewhere.

    In use are proposals whose confidence reaches the threshold: at first the score of the classifier of crops; after the burn-in, with `mining`, the mean
    of it and of the detector's probability of novel classes, relative to the likeliest box of the image. With `reweight` the loss of a region given to
    a proposal counts (1 - detector's probability of nothing there) + confidence of the proposal, that of others 1. Without side["proposed"] in the
    data there are none.

    Where data name no regions (data.boxes=true), proposals are the boxes in side["proposals"] (n, p, 6), and targets of learner=detector: as wide as they are,
    for its anchors and its sampled regions; the latter are weighed, and during the burn-in count the proposal's score. `per_sample["mined"]` is (n, p) then.
    The detector is asked in evaluation mode, about the view that is not strong.

    Args:
        threshold: >= 0; confidence from which a proposal is used; above 1 none is.
        burn_in: how long the detector is not asked.
        mining: ask the detector which proposals are right.
        reweight: weigh regions by what the detector says of them.
        stratified: a region that overlaps a labelled object by an IoU of 0.5 stands for it, whatever proposal it overlaps more.
    """
    return MarvelOVD(threshold, burn_in, mining, reweight, stratified)
