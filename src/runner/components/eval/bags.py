"""How well instances and bags are told apart by a network that scores instances."""

import torch

from runner import card

CARD = card(
    source="areas under the ROC curve, Qu et al. 2023 (2307.02249), section 4; R^2 of the mean score, Schirris et al. 2021 (2109.05892)",
    better={"instance_auc": "max", "bag_auc": "max", "bag_r2": "max"},
    tasks=("classification", "regression"),
)


def auc(scores, positive):
    """The chance that a positive scores higher than a negative, ties counted half."""
    values, group = scores.double().unique(return_inverse=True)
    above = torch.zeros(2, len(values), dtype=torch.double, device=scores.device)
    above[0].index_add_(0, group[~positive], torch.ones_like(scores[~positive]).double())
    above[1].index_add_(0, group[positive], torch.ones_like(scores[positive]).double())
    below = above[0].cumsum(0) - above[0] / 2
    return 100 * (above[1] * below).sum() / (above[0].sum() * above[1].sum())


class Bags:
    def __init__(self, splits):
        self.splits = splits

    def measure(self, state, split):
        if "bag" not in split.side:
            return {}
        # of several classes all but the first are positive
        scores = [b.z[:, 1:].logsumexp(1) - b.z[:, 0] if b.z.shape[1] > 1 else b.z[:, 0] for b in state.predictions(split)]
        scores, bag = torch.cat(scores).double(), split.side["bag"]
        truth = (split.y if split.clean is None else split.clean).flatten().double()
        truth = truth if state.info.task == "regression" else truth.clamp_max(1)
        found = {}
        _, bag, sizes = bag.unique(return_inverse=True, return_counts=True)
        total = lambda v: torch.zeros(len(sizes), dtype=torch.double, device=v.device).index_add(0, bag, v)
        shares = total(truth) / sizes
        if 0 < truth.mean() < 1 and not torch.allclose(truth, shares[bag]):
            found["instance_auc"] = auc(scores, truth > 0.5)
        if state.info.task == "regression":
            wrong = (total(scores) / sizes - shares).square().sum()
            found["bag_r2"] = 100 * (1 - wrong / (shares - shares.mean()).square().sum().clamp_min(1e-12))
        elif 0 < (shares > 0).double().mean() < 1:
            best = torch.full_like(shares, -torch.inf).scatter_reduce(0, bag, scores, "amax")
            found["bag_auc"] = auc(best, shares > 0)
        return found


def build(splits: list[str] = ("train", "test")):
    """instance_auc: percent of the pairs of a positive and a negative instance that the scores order rightly; bag_auc: of bags, by their highest score.

    Of several classes all but the first are positive. bag_r2, for a regression: percent of the variance of the true shares that the mean scores of the bags
    explain. For data with side["bag"]; nothing otherwise, and no instance_auc where instances have no labels of their own, but that of their bag.

    Args:
        splits: where to measure: train, val, test.
    """
    return Bags(list(splits))
