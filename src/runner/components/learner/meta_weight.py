"""Meta-Weight-Net: a small network weighs each sample by its loss, and learns to from a clean validation split."""

import torch
from torch import nn
from torch.func import functional_call

from runner import UserError, card
from runner.components.learner._weighing import Weighing, moved, tensors

CARD = card(
    paper="mwnet2019",
    arxiv="1902.07379",
    source="Shu et al. 2019, algorithm 1; authors' code xjtushujun/meta-weight-net, MW-Net.py and resnet.py (VNet)",
    rung={"step": "own"},
    tasks=("classification",),
    owns=("loss",),
)


def meta_gradient(state, weigh: nn.Module, batch, meta, lr: float) -> tuple:
    """The gradient of the loss on `meta`, after a virtual step of the model with the weighted losses of `batch`, with respect to the weights of `weigh`."""
    trained, buffers = tensors(state.model)
    losses = state.loss(functional_call(state.model, (trained, buffers), (batch.x,)), batch.t)
    weighted = (weigh(losses.detach().unsqueeze(-1)).squeeze(-1) * losses).mean()
    loss = state.loss(functional_call(state.model, (moved(trained, weighted, lr, state.masks), buffers), (meta.x,)), meta.y).mean()
    return torch.autograd.grad(loss, list(weigh.parameters()))


class MetaWeight(Weighing):
    def __init__(self, width, lr, weight_decay, size):
        self.width, self.lr, self.weight_decay, self.size = width, lr, weight_decay, size

    def setup(self, state):
        if state.data.val is None:
            raise UserError("learner/meta_weight learns its weights from a clean validation split, which this data has not; add data.val=0.1")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state.rng.derive("learner/meta_weight", "network"))
            network = nn.Sequential(nn.Linear(1, self.width), nn.ReLU(), nn.Linear(self.width, 1), nn.Sigmoid())
        self.begin(state, network, self.lr, self.weight_decay)

    def learn(self, state):
        """One step of the weighing network, on a random batch of the validation split."""
        rows = torch.randperm(len(state.data.val), generator=state.rng("learner/meta_weight"))[: self.size]
        meta = state.data.val.fetch(rows)
        self.descend(meta_gradient(state, self.network, state.batch, meta, state.optimizer.param_groups[0]["lr"]))

    def compute(self, state, batch):
        batch.z = state.model(batch.x)
        losses = state.loss(batch.z, batch.t)
        with torch.no_grad():
            weights = self.network(losses.float().unsqueeze(-1)).squeeze(-1).float()
        if not state.replay:
            state.per_sample["selected"][batch.i] = weights
        return weights * losses


def build(width: int = 100, lr: float = 1e-3, weight_decay: float = 1e-4, batch: int = 100):
    """mean V(l_i) l_i, where V has seen what a step of the model with these weights does to the loss on the validation split.

    Args:
        width: >= 1; hidden units of V, one hidden layer between a loss and a weight in (0, 1).
        lr: > 0; learning rate of V's Adam.
        weight_decay: >= 0; of V.
        batch: >= 1; validation samples in a step of V.
    """
    return MetaWeight(width, lr, weight_decay, batch)
