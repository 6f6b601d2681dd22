"""Feasible learning: every sample's loss is to be at most epsilon; a multiplier of each sample grows while it is not. Ramirez et al. 2025."""

import torch

from runner import card

CARD = card(
    paper="feasible2025",
    arxiv="2501.14912",
    source="Ramirez et al. 2025; authors' code juan43ramirez/feasible-learning, src/cmps/feasibility.py and configs/task.py: multipliers from 0, "
    "dual before primal step, weight decay of the multipliers for the resilient kind (scripts/rfl_ablation)",
    off={"rate": 0.0, "init": 1.0},
    rung={"losses": "weigh"},
)


class Feasible:
    def __init__(self, epsilon, rate, decay, init):
        self.epsilon, self.rate, self.decay, self.init = epsilon, rate, decay, init

    def setup(self, state):
        state.per_sample["multiplier"] = torch.full((len(state.data.train),), self.init, device=state.device)

    def losses(self, state, losses, batch):
        multipliers = state.per_sample["multiplier"]
        mine = multipliers[batch.i]
        if not state.replay:
            mine = (mine + self.rate * (losses.detach().float() - self.epsilon - self.decay * mine)).clamp_min(0)
            multipliers[batch.i] = mine
        return mine * losses


def build(epsilon: float = 0.5, rate: float = 0.1, decay: float = 0.0, init: float = 0.0):
    """mean m_i l_i, where m_i <- max(0, m_i + rate (l_i - epsilon - decay m_i)) just before, for the samples of the batch.

    With decay each bound has a slack u_i = decay m_i at the cost u_i^2 / (2 decay), for samples that cannot be learned.

    Args:
        epsilon: >= 0; largest loss that a sample should have; for cross entropy log(1 / p) asks for the probability p.
        rate: >= 0; step size of the multipliers.
        decay: >= 0; 0 for hard bounds, more for resilient feasible learning.
        init: >= 0; multipliers at the start.
    """
    return Feasible(epsilon, rate, decay, init)
