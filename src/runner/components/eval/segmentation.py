"""Overlap of predicted and true masks: mean IoU and Dice over the classes beside the ground."""

import torch

from runner import card

CARD = card(
    source="over all pixels of a split, as Everingham et al. 2010, The PASCAL VOC challenge, but without the ground; Dice = 2 IoU / (1 + IoU) of a class",
    better={"miou": "max", "dice": "max", "miou_clean": "max"},
    tasks=("segmentation",),
)


def overlap(guess, y, classes: int):
    """Pixels of each class that both have, that were predicted, and that are so labelled: (3, classes)."""
    count = lambda v: torch.bincount(v.flatten(), minlength=classes)
    return torch.stack([count(y[guess == y]), count(guess), count(y)]).double()


def scores(counts):
    """Mean IoU and Dice in percent over the classes but the first; a class that is neither there nor predicted does not count."""
    both, total = counts[0, 1:], counts[1, 1:] + counts[2, 1:]
    there = total > 0
    if not there.any():
        return 100.0, 100.0
    iou, dice = both[there] / (total - both)[there], 2 * both[there] / total[there]
    return 100 * iou.mean(), 100 * dice.mean()


class Segmentation:
    def __init__(self, splits):
        self.splits = splits

    def measure(self, state, split):
        classes = state.info.outputs
        seen = truth = torch.zeros(3, classes, dtype=torch.double, device=state.device)
        for batch in state.predictions(split):
            guess = batch.z.argmax(-1)
            seen = seen + overlap(guess, batch.y, classes)
            if split.clean is not None:
                truth = truth + overlap(guess, split.clean[batch.i], classes)
        found = dict(zip(("miou", "dice"), scores(seen), strict=True))
        return found if split.clean is None else found | {"miou_clean": scores(truth)[0]}


def build(splits: list[str] = ("test",)):
    """miou, dice: mean over the classes but 0 of the overlap of all pixels of the split, in percent, against the labels it has; of none, 100.

    miou_clean, for a split with wrong labels: against the true ones.

    Args:
        splits: where to measure: train, val, test.
    """
    return Segmentation(list(splits))
