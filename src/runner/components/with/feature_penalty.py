"""Penalty on features: the squares of what some module of the network gives, or of what its classifier is given, are added to the loss."""

import torch

from runner import UserError, card
from runner.components._features import classifier

CARD = card(
    source="pooling_l2 of qipeng/gcn-over-pruned-trees, model/trainer.py: 0.003 times the squared norm of the pooled sentence (train_cgcn.sh)",
    off={"strength": 0.0},
    rung={"batch": "adversarial", "losses": "correct"},
    uses=("network",),
)


class FeaturePenalty:
    def __init__(self, strength, module):
        self.strength, self.module = strength, module
        self.features = None  # of the pass that is under way

    def setup(self, state):
        if self.module is None:
            classifier(state.model, "with/feature_penalty").register_forward_pre_hook(lambda layer, given: self.see(layer, given[0]))
            return
        modules = dict(state.model.named_modules())
        if not self.module or self.module not in modules:
            raise UserError(f"with.feature_penalty.module={self.module} is no module of the network; it has {', '.join(filter(None, modules))}")
        modules[self.module].register_forward_hook(lambda layer, given, out: self.see(layer, out))

    def see(self, layer, features):
        if layer.training and self.features is None and torch.is_grad_enabled():
            self.features = features

    def batch(self, state, batch):
        self.features = None  # others may have passed something through the model before

    def losses(self, state, losses, batch):
        features, self.features = self.features, None
        if features is None or len(features) != len(losses):
            raise UserError("with/feature_penalty has no features of this batch: the learner passes the batch through other networks, or other samples first")
        return losses + self.strength * features.float().flatten(1).square().sum(1)


def build(strength: float = 0.003, module: str | None = None):
    """loss_i + strength * |f_i|^2, f_i the features of sample i in the learner's first pass, with all their dimensions.

    Args:
        strength: >= 0; 0 adds nothing.
        module: name of the module of the network whose outputs they are, such as `pooled` of model=c_gcn; what the last linear layer is given if null.
    """
    return FeaturePenalty(strength, module)
