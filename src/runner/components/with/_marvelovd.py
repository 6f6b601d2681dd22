"""MarvelOVD's rules, and how a detector that finds its own boxes follows them: which proposals it trains on, and what its regions count."""

import torch
from torch import Tensor

from runner.components._boxes import mirror


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


def ask(state, x: Tensor, boxes: Tensor) -> Tensor:
    """(B, R, K): the detector's probabilities of what boxes (B, R, 4) show, in evaluation mode, so that asking changes nothing."""
    training = state.model.training
    state.model.eval()
    with torch.no_grad():
        logits, _ = state.model(x, regions=boxes)
    state.model.train(training)
    return logits.softmax(-1)


def pick(how, state, batch, late: bool) -> Tensor:
    """Add the proposals in use to the batch's targets; (B, p) their classes + 1, 0 for those that are not used. `how`: the hook with its options."""
    extra, proposals = batch.extra, state.data.train.side["proposals"][batch.i]
    named, labelled = proposals[..., 0].long() + 1, batch.y > 0
    nobody = torch.zeros_like(labelled)
    extra["boxes"] = torch.cat([extra["boxes"], mirror(proposals[..., 1:5], extra["turned"], state.info.shape[-1])], 1)
    sure, proposed = torch.cat([nobody.float(), proposals[..., 5]], 1), torch.cat([nobody, named > 0], 1)
    if late and how.mining:
        sure = confidence(sure, ask(state, batch.x, extra["boxes"]), proposed, torch.cat([labelled, named < 0], 1), how.novel)
    used = proposed & (sure >= how.threshold)
    mined = torch.where(used[:, labelled.shape[1] :], named, 0)
    batch.t = torch.cat([batch.y, mined], 1)
    if how.stratified:
        extra["later"] = used
    if how.reweight:
        extra["marvelovd"] = sure
    return mined


def weigh(state, batch, late: bool) -> Tensor:
    """(B, R): what regions count: those given to a proposal its confidence, and later 1 - p(nothing there) more; others 1."""
    given = batch.extra["given"]
    pseudo, sure = given >= batch.y.shape[1], batch.extra["marvelovd"].gather(1, given.clamp_min(0))
    if late and pseudo.any():
        sure = sure + 1 - ask(state, batch.x, batch.extra["regions"])[..., 0]
    return torch.where(pseudo, sure, 1.0)
