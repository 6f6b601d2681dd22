"""Any classifier of torchvision by its name, untrained."""

import torch
from torch import nn

from runner import UserError, card
from runner.core.errors import nearest

CARD = card(source="torchvision.models.get_model(arch, weights=None); its own initialisation", images=True)
AUXILIARY = ("googlenet", "inception_v3")  # their second classifiers are left out: a model has one output


class Grey(nn.Module):
    """One channel, shown to the network as three."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x.expand(-1, 3, -1, -1))


def build(arch: str = "resnet18"):
    """The network as torchvision builds it, with as many outputs as there are classes.

    Args:
        arch: name such as resnet50, mobilenet_v3_small, convnext_tiny.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if arch not in known:
        raise ValueError(f"torchvision has no classifier '{arch}'{nearest(arch, known)}")

    def make(info, softmax):
        del softmax
        options = {"aux_logits": False, "init_weights": True} if arch in AUXILIARY else {}
        options |= {"image_size": info.shape[-1]} if arch.startswith("vit_") else {}
        if info.shape[0] not in (1, 3):
            raise UserError(f"model=torchvision takes 1 or 3 channels, not {info.shape[0]}")
        try:
            network = models.get_model(arch, weights=None, num_classes=info.outputs, **options)
            network = Grey(network) if info.shape[0] == 1 else network
            with torch.no_grad():
                network.eval()(torch.zeros(1, *info.shape))
        except (RuntimeError, ValueError) as error:
            raise UserError(f"torchvision's {arch} does not take inputs of shape {info.shape}: {str(error).splitlines()[0]}") from error
        return network.train()

    return make
