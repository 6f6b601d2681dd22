"""Linear probe: a network learns features without labels; then a linear classifier on them learns the labels, as wrong as they are."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from runner import Duration, UserError, card
from runner.components._features import classifier, inputs
from runner.core.phases import Phase

CARD = card(
    paper="nierm2024",
    arxiv="2411.00079",
    source="Zhu et al. 2024: noise-ignorant empirical risk minimisation on a frozen self-supervised extractor, there DINOv2; "
    "here the pretext task of Gidaris et al. 2018 (1803.07728), section 3: all four rotations of each image of a batch",
    owns=("phases",),
    tasks=("classification",),
    images=True,
    cost=4.0,
)


class LinearProbe:
    def __init__(self, pretext, pretraining, keep):
        self.pretext, self.pretraining, self.keep = pretext, pretraining, keep

    def setup(self, state):
        self.classifier = classifier(state.model, "learner/linear_probe")
        if self.pretext == "rotation" and state.info.shape[-1] != state.info.shape[-2]:
            raise UserError(f"learner/linear_probe turns square images; the data has {state.info.shape[-2]}x{state.info.shape[-1]}")
        if self.keep:
            if state.world.sharded:  # all processes must compute features together
                raise UserError("learner.keep=true does not go with trainer.shard=true")
            if state.data.train.augment is not None:
                raise UserError("learner.keep=true computes the features of an image once; these are augmented anew every epoch, see data.augment")
            unseen = torch.full((len(state.data.train), self.classifier.in_features), torch.nan, device=state.device)
            state.per_sample["linear_probe"] = unseen
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state.rng.derive("learner/linear_probe"))
            self.turn = nn.Linear(self.classifier.in_features, 4).to(state.device)

    def phases(self, state):
        probe = Phase("probe", None, fresh=True)
        return [probe] if self.pretext == "none" else [Phase("pretext", self.pretraining), probe]

    def features(self, state, x):
        """What the classifier is given."""
        with inputs(self.classifier) as seen:
            state.model(x)
        return seen[0]

    def frozen(self, state, batch):
        """The features of a batch, which stand still: from the table of those that were computed before, if there is one."""
        if not self.keep:
            return self.features(state, batch.x)
        table = state.per_sample["linear_probe"]
        new = table[batch.i, 0].isnan()
        if new.any():
            table[batch.i[new]] = self.features(state, batch.x[new]).to(table)
        return table[batch.i]

    def compute(self, state, batch):
        if self.pretext == "rotation" and state.phase == 0:
            features = self.features(state, torch.cat([batch.x.rot90(k, (-2, -1)) for k in range(4)]))
            turns = torch.arange(4, device=batch.x.device).repeat_interleave(len(batch.i))
            batch.z = self.classifier(features[: len(batch.i)]).detach()
            return F.cross_entropy(self.turn(features), turns, reduction="none").view(4, -1).mean(0)
        state.model.eval()  # the features stand still, their normalisation too
        with torch.no_grad():
            features = self.frozen(state, batch)
        batch.z = self.classifier(features)
        return state.loss(batch.z, batch.t)


def build(pretext: Literal["rotation", "none"] = "rotation", pretraining: Duration | None = None, keep: bool = False):
    """First the network tells by which of four angles an image was turned; then its last linear layer alone is trained, on frozen features.

    Args:
        pretext: what the features are learned from: rotation, or none for those of the weights that the model starts from.
        pretraining: length of the training without labels; half of the run if not given.
        keep: compute the frozen features of each training image once, a table (n, d) of float32 on the device and in checkpoints. Right only where nothing
            else changes images or network, as mixing, cutting and pruning do; without it they are computed anew at every step.
    """
    return LinearProbe(pretext, pretraining, keep)
