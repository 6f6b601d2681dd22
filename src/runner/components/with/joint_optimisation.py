"""Joint optimisation: labels are replaced by the network's own average predictions of the last epochs. Tanaka et al. 2018."""

import math

import torch

from runner import Duration, card
from runner.core.targets import soft

CARD = card(
    paper="jointopt2018",
    arxiv="1803.11364",
    source="Tanaka et al. 2018, section 3; authors' code DaikiTanaka-UT/JointOptimization, first_step_train.py (the prior's constant entropy left out there); "
    "alpha and beta from its README, symmetric noise",
    off={"begin": "1000000ep", "alpha": 0.0, "beta": 0.0},
    rung={"batch": "target"},
    tasks=("classification",),
    owns=("targets",),
    uses=("outputs",),
)


class JointOptimisation:
    def __init__(self, begin, window, alpha, beta):
        self.begin, self.window, self.alpha, self.beta = begin, window, alpha, beta
        self.replaced = False

    def setup(self, state):
        train, classes = state.data.train, state.info.outputs
        state.per_sample["joint_optimisation"] = soft(train.y, classes)
        state.per_sample["joint_optimisation/seen"] = torch.zeros(len(train), self.window, classes, device=state.device)

    def epoch_start(self, state):
        state.per_sample["joint_optimisation/seen"][:, state.epoch % self.window] = 0  # of an epoch before the window, for samples that this one leaves out

    def batch(self, state, batch):
        if self.replaced:
            batch.t = state.per_sample["joint_optimisation"][batch.i]

    def penalty(self, state, batch):
        log_p = batch.z.float().log_softmax(-1)
        p = log_p.exp()
        if not state.replay:
            state.per_sample["joint_optimisation/seen"][batch.i, state.epoch % self.window] = p.detach()
        classes = log_p.shape[-1]
        log_mean = log_p.logsumexp(0) - math.log(len(log_p))
        prior = -math.log(classes) - log_mean.mean()  # KL(uniform || mean prediction)
        entropy = -(p * log_p).sum(-1).mean()
        return self.alpha * prior + self.beta * entropy

    def epoch_end(self, state):
        if state.step >= state.clock.steps(self.begin):
            targets, total = state.per_sample["joint_optimisation"], state.per_sample["joint_optimisation/seen"].sum(1)
            seen = total.sum(-1, keepdim=True)  # epochs in which the sample was seen: at most `window`
            state.per_sample["joint_optimisation"] = torch.where(seen > 0, total / seen.clamp_min(1), targets)
            self.replaced = True


def build(begin: Duration = "70ep", window: int = 10, alpha: float = 1.2, beta: float = 0.8):
    """loss(z, t) + alpha KL(uniform || mean prediction of the batch) + beta mean entropy; from `begin` on t_i is the mean prediction for i of late.

    Predictions are those made in training, as in the authors' code: they cost no pass, and are averaged over augmentations and weights alike.

    Args:
        begin: time after which each end of an epoch renews the targets.
        window: >= 1; epochs whose predictions are averaged.
        alpha: >= 0; weight of the prior, against all samples falling into one class.
        beta: >= 0; weight of the entropy, without which soft targets would soon stand still.
    """
    return JointOptimisation(begin, window, alpha, beta)
