"""Peer loss: subtract the loss of inputs paired with labels of other samples, so that blind agreement with the labels earns nothing."""

import torch

from runner import Duration, card

CARD = card(
    paper="peerloss2020",
    arxiv="1910.03231",
    source="Liu & Guo 2020, section 3; authors' code weijiaheng/Multi-class-Peer-Loss-functions, CIFAR-10/runner.py (log(p + 1e-5), growing alpha)",
    off={"alpha": 0.0},
    rung={"batch": "target"},
    tasks=("classification",),
    uses=("outputs",),
)


class PeerLoss:
    def __init__(self, alpha, begin, ramp, floor):
        self.alpha, self.begin, self.ramp, self.floor = alpha, begin, ramp, floor

    def batch(self, state, batch):
        labels = state.data.train.y
        rows = torch.randint(len(labels), (len(batch.i),), generator=state.rng("with/peer_loss"))
        batch.extra["peer_loss"] = labels[rows.to(labels.device)]

    def penalty(self, state, batch):
        begin, ramp = state.clock.steps(self.begin), state.clock.steps(self.ramp)
        grown = min(1.0, max(0, state.step - begin) / ramp) if ramp else float(state.step >= begin)
        bounded = (batch.z.float().softmax(-1) + self.floor).log()
        return -self.alpha * grown * state.loss(bounded, batch.extra["peer_loss"]).mean()


def build(alpha: float = 1.0, begin: Duration = "0ep", ramp: Duration = "0ep", floor: float = 1e-5):
    """mean loss(z_i, t_i) - alpha mean loss(log(p_i + floor), y_j), with j drawn from all training samples for each i.

    The inputs of the peer term are the batch's own, which costs no further pass; they are as independent of y_j as fresh ones.

    Args:
        alpha: >= 0; weight of the peer term (the authors let it grow from 0 to 1 and, late and at low rates, beyond).
        begin: time from which it acts.
        ramp: how long it then takes to grow from 0 to alpha.
        floor: in (0, 1); keeps the peer term, which is to be large, from growing without bound.
    """
    return PeerLoss(alpha, begin, ramp, floor)
