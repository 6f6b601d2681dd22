"""MarvelOVD: a detector picks, with its own eyes, which proposals of a classifier of crops it trains on. Wang et al. 2024."""

import torch

from runner import Duration, card

CARD = card(
    paper="marvelovd2024",
    arxiv="2407.21465",
    source="authors' code wkfdb/MarvelOVD, modeling: meta_arch/custom_rcnn.py (refine_pseudo_labels), roi_heads/roi_heads2_ssod.py (forward_weak_strong), "
    "matcher.py; threshold 0.9. Here one view of an image in place of a weak and a strong one",
    off={"threshold": 2.0},
    rung={"batch": "target", "losses": "correct"},
    tasks=("detection",),
    cost=2,
)
MATCH = 0.5  # IoU from which a region stands for a proposal


def confidence(score, p, proposed, labelled, novel):
    """(B, A): the mean of a proposal's score and of the detector's probability of novel classes, that of the image's likeliest box being 1.

    Args:
        score: (B, A) what the classifier of crops gives each region.
        p: (B, A, K) the detector's probabilities.
        proposed, labelled: (B, A) whether a region is a proposal; whether it stands for a labelled object.
        novel: (k,) the novel classes.
    """
    seen = p[..., novel].sum(-1)
    most = torch.where(proposed | labelled, seen, 0).amax(1, keepdim=True)
    return (score + seen / most.clamp_min(1e-12)) / 2


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
        nothing = torch.zeros_like(train.y)
        self.proposed, self.score, self.iou = (train.side.get(name, nothing) for name in ("proposed", "score", "iou"))
        self.overlap, self.novel = box_iou(boxes, boxes), self.proposed[self.proposed > 0].unique()
        state.per_sample["mined"] = nothing.clone()

    def batch(self, state, batch):
        i, late = batch.i, state.step >= state.clock.steps(self.burn_in)
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
        return losses + ((batch.extra["marvelovd"] - 1) * state.loss(batch.z, batch.t)).mean(1)


def build(threshold: float = 0.9, burn_in: Duration = "5ep", mining: bool = True, reweight: bool = True, stratified: bool = True):
    """Regions that overlap a proposal in use by an IoU of 0.5 are trained as its class. `per_sample["mined"]` (n, regions): those in use, 0 elsewhere.

    In use are proposals whose confidence reaches the threshold: at first the score of the classifier of crops; after the burn-in, with `mining`, the mean
    of it and of the detector's probability of novel classes, relative to the likeliest box of the image. With `reweight` the loss of a region given to
    a proposal counts (1 - detector's probability of nothing there) + confidence of the proposal, that of others 1. Without side["proposed"] in the
    data there are none.

    Args:
        threshold: >= 0; confidence from which a proposal is used; above 1 none is.
        burn_in: how long the detector is not asked.
        mining: ask the detector which proposals are right.
        reweight: weigh regions by what the detector says of them.
        stratified: a region that overlaps a labelled object by an IoU of 0.5 stands for it, whatever proposal it overlaps more.
    """
    return MarvelOVD(threshold, burn_in, mining, reweight, stratified)
