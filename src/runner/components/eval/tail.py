"""The worst losses of a split: how single samples fare, where a mean says little."""

import torch

from runner import card

CARD = card(
    arxiv="2501.14912", source="Ramirez et al. 2025, who compare maximum and conditional value at risk (CVaR) of the samples' losses",
    better={"loss_max": "min", "loss_cvar": "min"}, tasks=("classification", "regression", "language", "segmentation", "detection"),
)  # fmt: skip


class Tail:
    def __init__(self, share, splits):
        self.share, self.splits = share, splits

    def measure(self, state, split):
        found = [state.loss(batch.z, batch.y).double() for batch in state.predictions(split)]
        worst = torch.cat([losses.flatten(1).mean(1) if losses.dim() > 1 else losses for losses in found]).sort(descending=True)[0]
        return {"loss_max": worst[0], "loss_cvar": worst[: max(1, round(self.share * len(worst)))].mean()}


def build(share: float = 0.05, splits: list[str] = ("train", "test")):
    """loss_max: the largest loss of a sample; loss_cvar: mean over the samples with the largest losses.

    Args:
        share: in (0, 1]; of the samples that loss_cvar is about.
        splits: where to measure: train, val, test.
    """
    return Tail(share, list(splits))
