"""Early-learning regularisation: keep predictions close to their own running average, so that wrong labels are not memorised."""

import torch

from runner import card

CARD = card(
    paper="elr2020",
    arxiv="2007.00151",
    source="equations 6 and 9; authors' code shengliu66/ELR, loss.py",
    off={"lam": 0.0},
    tasks=("classification",),
    uses=("outputs",),
)


class ELR:
    def __init__(self, lam, beta):
        self.lam, self.beta = lam, beta

    def setup(self, state):
        state.per_sample["elr"] = torch.zeros(len(state.data.train), state.info.outputs, device=state.device)

    def penalty(self, state, batch):
        p = batch.z.float().softmax(-1).clamp(1e-4, 1 - 1e-4)
        targets = state.per_sample["elr"]
        if state.replay:
            t = targets[batch.i]
        else:
            q = p.detach() / p.detach().sum(-1, keepdim=True)
            t = self.beta * targets[batch.i] + (1 - self.beta) * q
            targets[batch.i] = t
        return self.lam * torch.log(1 - (t * p).sum(-1)).mean()


def build(lam: float = 3.0, beta: float = 0.7):
    """CE + lam * mean log(1 - <p_i, t_i>), with t_i <- beta t_i + (1 - beta) p_i.

    Args:
        lam: >= 0; strength (3 for CIFAR-10, 7 for CIFAR-100 in the paper).
        beta: in [0, 1); memory of the targets (0.7 for CIFAR-10, 0.9 for CIFAR-100).
    """
    return ELR(lam, beta)
