"""Forward correction with a noise model that was counted on a few samples of which the true label is known too."""

from typing import Literal

import torch

from runner import UserError, card

CARD = card(
    paper="noisemodel2021",
    arxiv="2101.09763",
    source="Hedderich et al. 2021, a noise model counted from pairs of a clean and a noisy label; correction: Patrini et al. 2017 (1609.03683), theorem 2",
    off={"pairs": 0},
    close=True,
    rung={"losses": "correct"},
    tasks=("classification",),
    uses=("loss", "outputs"),
)


def choose(y, pairs: int, sampling: str, classes: int, generator):
    """Indices of samples: random ones, or as many of each class as there are."""
    rows = torch.randperm(len(y), generator=generator).to(y.device)
    if sampling == "random":
        return rows[:pairs]
    each = [rows[y[rows] == c][: pairs // classes] for c in range(classes)]
    return torch.cat(each)


def count(clean, noisy, classes: int):
    """T (C, C), the shares of the noisy labels of each class; a class without samples is taken to be clean."""
    counts = torch.bincount(clean * classes + noisy, minlength=classes**2).view(classes, classes).float()
    total = counts.sum(1, keepdim=True)
    return torch.where(total > 0, counts / total.clamp_min(1), torch.eye(classes, device=counts.device))


class CountedTransition:
    def __init__(self, pairs, sampling):
        self.pairs, self.sampling = pairs, sampling

    def setup(self, state):
        train, classes = state.data.train, state.info.outputs
        truth = train.y if train.clean is None else train.clean
        if self.pairs > len(truth):
            raise UserError(f"with.counted_transition.pairs={self.pairs} is more than the {len(truth)} training samples")
        rows = choose(truth, self.pairs, self.sampling, classes, state.rng("with/counted_transition"))
        self.matrix = count(truth[rows], train.y[rows], classes)
        state.per_sample["transition"] = self.matrix.T[train.y]

    def losses(self, state, losses, batch):
        noisy = (batch.z.float().softmax(-1) @ self.matrix).clamp_min(1e-30).log()
        return losses - state.loss(batch.z, batch.t) + state.loss(noisy, batch.t)  # what a learner adds to the loss stays


def build(pairs: int = 200, sampling: Literal["random", "balanced"] = "random"):
    """loss(log(T' softmax(z)), t), where T has been counted on so many training samples whose true labels are given to it, and to it alone.

    Args:
        pairs: >= 0; samples with both labels; the expected squared error of an entry is T_ij (1 - T_ij) / n_i with n_i of them in class i.
        sampling: random samples, or balanced, as many of each class.
    """
    return CountedTransition(pairs, sampling)
