"""TRAM: a head that sees privileged information trains the features, one that does not sees them as they are and predicts at test time."""

import torch
from torch import nn
from torch.nn import functional as F

from runner import UserError, card
from runner.components._features import classifier, inputs

CARD = card(
    paper="pi2023",
    arxiv="2303.01806",
    source="Ortiz-Jimenez et al. 2023, sections 2 and 4 (TRAM++: random features as a way to memorise, larger head); TRAM: Collier et al. 2022 (2202.09244)",
    tasks=("classification",),
)


class Tram:
    def __init__(self, random, width, weight):
        self.random, self.width, self.weight = random, width, weight

    def setup(self, state):
        train = state.data.train
        self.classifier = classifier(state.model, "learner/tram")
        given = train.side.get("privileged")
        if given is None and not self.random:
            raise UserError("learner/tram has no privileged information; add noise=[symmetric,privileged] or learner.random=16")
        known = [] if given is None else [given.float().cpu()]
        if self.random:
            known.append(torch.randn(len(train), self.random, generator=state.rng("learner/tram")))
        self.privileged = torch.cat(known, 1).to(state.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state.rng.derive("learner/tram", "head"))
            self.read = nn.Linear(self.privileged.shape[1], self.width).to(state.device)
            self.head = nn.Sequential(nn.Linear(self.classifier.in_features + self.width, self.width), nn.ReLU(), nn.Linear(self.width, state.info.outputs)).to(
                state.device
            )

    def features(self, state, x):
        """What the last linear layer is given."""
        with inputs(self.classifier) as seen:
            state.model(x)
        return seen[0]

    def compute(self, state, batch):
        features = self.features(state, batch.x)
        batch.z = self.classifier(features.detach())
        known = F.relu(self.read(self.privileged[batch.i]))
        return state.loss(batch.z, batch.t) + self.weight * state.loss(self.head(torch.cat([features, known], 1)), batch.t)


def build(random: int = 16, width: int = 256, weight: float = 1.0):
    """loss(g(stop(f(x))), t) + weight loss(h(f(x), a), t), with a the privileged information; g is the model's last layer, f the others.

    Args:
        random: >= 0; random features of each sample beside those of noise=privileged, if there are any: with them wrong labels can be learned by heart.
        width: >= 1; hidden units of h, and of the layer that reads a.
        weight: > 0; of the loss that trains f.
    """
    return Tram(random, width, weight)
