"""ALIM: learn from sets of candidate labels that may lack the true one, trusting them only as far as the network does not contradict them."""

import torch

from runner import Duration, card
from runner.core.targets import soft

CARD = card(
    paper="alim2023",
    arxiv="2301.12077",
    source="Xu et al. 2023, equations 3 to 6; authors' code zeroQiaoba/ALIM, train_merge.py and utils_loss.py (--max1); lambda = 0 without memory is "
    "PRODEN, Lv et al. 2020 (2002.08053)",
    off={"eta": 0.0},
    close=True,
    rung={"batch": "target"},
    tasks=("classification",),
    owns=("targets",),
)


def weigh(log_p, candidates, lam: float, hard: bool):
    """Normalise(p (S + lam (1 - S))), (B, C): rescaled, or all on the largest entry."""
    scores = log_p + torch.where(candidates, 1.0, lam).log()
    if hard:
        return soft(scores.argmax(-1), log_p.shape[-1])
    return scores.softmax(-1)


class ALIM:
    def __init__(self, eta, warmup, momentum, hard):
        self.eta, self.warmup, self.momentum, self.hard = eta, warmup, momentum, hard
        self.lam = 0.0

    def setup(self, state):
        train = state.data.train
        sets = train.side.get("candidates")
        self.candidates = (soft(train.y, state.info.outputs) if sets is None else sets).bool()
        state.per_sample["alim"] = self.candidates / self.candidates.sum(1, keepdim=True)
        state.per_sample["alim/ratio"] = torch.zeros(len(train), device=state.device)

    @torch.no_grad()
    def batch(self, state, batch):
        training = state.model.training
        state.model.eval()
        log_p, candidates = state.model(batch.x).float().log_softmax(-1), self.candidates[batch.i]
        state.model.train(training)
        inside, outside = (log_p.masked_fill(gone, -torch.inf).amax(-1) for gone in (~candidates, candidates))
        state.per_sample["alim/ratio"][batch.i] = (inside - outside).exp()
        targets = state.per_sample["alim"]
        targets[batch.i] = self.momentum * targets[batch.i] + (1 - self.momentum) * weigh(log_p, candidates, self.lam, self.hard)
        batch.t = targets[batch.i]

    def epoch_end(self, state):
        if self.eta and state.step >= state.clock.steps(self.warmup):
            ratios = state.per_sample["alim/ratio"].sort()[0]
            self.lam = min(1.0, ratios[min(int(self.eta * len(ratios)), len(ratios) - 1)].item())


def build(eta: float = 0.3, warmup: Duration = "80ep", momentum: float = 0.9, hard: bool = True):
    """Targets are the running mean of Normalise(p (S + lam (1 - S))), with p the network's probabilities for the unmixed inputs and S the candidates.

    lam is 0 until the end of the warm-up and then, after each epoch, the eta-quantile over the samples of max_S p / max_not_S p, at most 1.
    The candidates are those of noise=partial; where there are none, the label alone is the set.

    Args:
        eta: in [0, 1); share of the sets that lack the true label; 0 trusts them all.
        warmup: time during which all sets are trusted.
        momentum: in [0, 1); memory of the targets (from 0.95 down to 0.8 in the paper; 0 in PRODEN).
        hard: ALIM-Onehot; otherwise ALIM-Scale, as PRODEN.
    """
    return ALIM(eta, warmup, momentum, hard)
