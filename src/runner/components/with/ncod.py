"""NCOD: labels count as far as the sample resembles its class, and numbers of their own discount those that the network never predicts."""

import torch

from runner import UserError, card
from runner.components._features import classifier
from runner.core.targets import soft

CARD = card(
    paper="ncod2023",
    arxiv="2303.09470",
    source="Wani et al. 2023; authors' code wanifarooq/NCOD, implementation/model/loss.py and configuration.json (rate 0.1, 0.3 for asymmetric noise)",
    off={"rate": 0.0, "centroids": False},
    close=True,
    rung={"batch": "adversarial", "losses": "correct"},
    tasks=("classification",),
    uses=("loss", "outputs"),
)
FLOOR = 1e-4  # of probabilities


class NCOD:
    def __init__(self, rate, centroids, trusted):
        self.rate, self.use_centroids, self.trusted = rate, centroids, trusted
        self.features = None  # of the pass that is under way

    def setup(self, state):
        layer = classifier(state.model, "with/ncod")
        n, d = len(state.data.train), layer.in_features
        state.per_sample["ncod/u"] = torch.full((n,), 1e-8, device=state.device)
        state.per_sample["ncod/features"] = torch.rand(n, d, generator=state.rng("with/ncod")).to(state.device)
        state.per_sample["selected"] = torch.ones(n, device=state.device)
        self.means = torch.zeros(state.info.outputs, d, device=state.device)
        layer.register_forward_pre_hook(self._see)

    def _see(self, module, inputs):
        if module.training and self.features is None:
            self.features = inputs[0].detach().float()

    def epoch_start(self, state):
        """Renew the classes' centroids: over their samples with the smallest u, all of them at first, a share `trusted` in the end."""
        u, y, share = state.per_sample["ncod/u"], state.data.train.y, 1 - (1 - self.trusted) * state.progress
        for c in y.unique().tolist():
            rows = (y == c).nonzero()[:, 0]
            rows = rows[u[rows].argsort(stable=True)[: max(1, int(share * len(rows)))]]
            self.means[c] = state.per_sample["ncod/features"][rows].mean(0)

    def batch(self, state, batch):
        self.features = None  # an evaluation, or another's hook before, may have passed something through the model in training mode

    def losses(self, state, losses, batch):
        if self.features is None or len(self.features) != len(losses):
            raise UserError("with/ncod has no features of this batch: the learner passes other samples or networks, or not in training mode")
        t, p, u = soft(batch.t, batch.z.shape[-1]), batch.z.float().softmax(-1), state.per_sample["ncod/u"][batch.i]
        goal = t
        if self.use_centroids:
            goal = t * torch.cosine_similarity(self.features[:, None], self.means, dim=-1).clamp_min(0)
        corrected = -(goal * (p + u[:, None] * t).clamp(FLOOR, 1).log()).sum(-1)
        if not state.replay:
            guess = soft(batch.z.argmax(-1), batch.z.shape[-1])
            slope = 2 * (t * (guess + u[:, None] * t - t)).sum(-1) / len(state.batch.i)  # of the mean of |guess + u t - t|^2
            state.per_sample["ncod/u"][batch.i] = u - self.rate * slope
            state.per_sample["ncod/features"][batch.i] = self.features
            state.per_sample["selected"][batch.i] = 1 - state.per_sample["ncod/u"][batch.i].clamp(0, 1)
        self.features = None
        return losses - state.loss(batch.z, batch.t) + corrected  # what a learner adds to the loss stays


def build(rate: float = 0.1, centroids: bool = True, trusted: float = 0.5):
    """-s log(p_y + u), s the cosine of the sample's features and the mean features of its class; u descends (1[prediction = y] + u - 1)^2.

    u grows towards 1 where the network does not predict the label and falls back to 0 where it does; s is 1 at most and 0 if it were negative.

    Args:
        rate: >= 0; learning rate of u.
        centroids: weigh by the similarity s; otherwise s is 1.
        trusted: in (0, 1]; share of each class, those with the smallest u, that its centroid is the mean of in the end; all at first.
    """
    return NCOD(rate, centroids, trusted)
