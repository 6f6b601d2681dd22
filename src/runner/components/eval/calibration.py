"""Whether confidences are right: expected calibration error, Brier score and negative log-likelihood."""

import torch

from runner import card
from runner.core.targets import soft

CARD = card(
    paper="calibration2017",
    arxiv="1706.04599",
    source="Guo et al. 2017, eq. 2 and 3 (15 bins); Brier 1950 (sum over the classes)",
    better={"ece": "min", "brier": "min", "nll": "min"},
    tasks=("classification", "language"),
)


class Calibration:
    def __init__(self, bins, splits):
        self.bins, self.splits = bins, splits

    def measure(self, state, split):
        gap = torch.zeros(self.bins, dtype=torch.double, device=state.device)  # sum of (right - confidence) in each bin
        brier = nll = count = 0
        for batch in state.predictions(split):
            logp = batch.z.double().log_softmax(-1)
            p = logp.exp()
            confidence, guess = p.max(-1)
            right = (guess == batch.y).double()
            place = ((confidence * self.bins).ceil().long() - 1).clamp(0, self.bins - 1)  # bins are open below, closed above
            gap.index_add_(0, place.flatten(), (right - confidence).flatten())
            brier += (p - soft(batch.y, p.shape[-1], p.dtype)).square().sum()
            nll -= logp.gather(-1, batch.y.unsqueeze(-1)).sum()
            count += batch.y.numel()
        return {"ece": 100 * gap.abs().sum() / count, "brier": brier / count, "nll": nll / count}


def build(bins: int = 15, splits: list[str] = ("test",)):
    """ece: gap between confidence and accuracy in percent, over bins of equal width; brier: sum of squared errors of the probabilities; nll.

    Args:
        bins: >= 1; bins of the confidence.
        splits: where to measure: train, val, test.
    """
    return Calibration(bins, list(splits))
