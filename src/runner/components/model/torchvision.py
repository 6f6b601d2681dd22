"""Any classifier of torchvision by its name, untrained or as torchvision trained it."""

import torch
from torch import nn

from runner import UserError, card
from runner.components._learned import bring
from runner.components._torchvision import check, trained

CARD = card(source="torchvision.models.get_model(arch, weights); its own initialisation", images=True)
AUXILIARY = ("googlenet", "inception_v3")  # their second classifiers are left out: a model has one output


class Grey(nn.Module):
    """One channel, shown to the network as three."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x.expand(-1, 3, -1, -1))


def renew(network: nn.Module, outputs: int) -> nn.Module:
    """The network with a new last layer of so many outputs; it is a convolution in SqueezeNet, a linear layer in all others."""
    bring(network)
    name, old = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    kind, wide = (nn.Linear, (old.in_features, outputs)) if isinstance(old, nn.Linear) else (nn.Conv2d, (old.in_channels, outputs, old.kernel_size))
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, kind(*wide, bias=old.bias is not None))
    return network


def build(arch: str = "resnet18", weights: str | None = None):
    """The network as torchvision builds it, with as many outputs as there are classes.

    Args:
        arch: name such as resnet50, mobilenet_v3_small, convnext_tiny.
        weights: that it starts from, all but the last layer, by torchvision's name such as IMAGENET1K_V1: a file in torch.hub's cache, fetched where
            there is a network. Images should be normalised as ImageNet's. Random ones if not given.
    """
    from torchvision import models

    check(arch, weights)

    def make(info, softmax):
        del softmax
        options = {"aux_logits": False, "init_weights": True} if arch in AUXILIARY else {}
        options |= {"image_size": info.shape[-1]} if arch.startswith("vit_") else {}
        if info.shape[0] not in (1, 3):
            raise UserError(f"model=torchvision takes 1 or 3 channels, not {info.shape[0]}")
        try:
            if weights is None:
                network = models.get_model(arch, weights=None, num_classes=info.outputs, **options)
            else:
                network = renew(trained(arch, weights), info.outputs)
            network = Grey(network) if info.shape[0] == 1 else network
            with torch.no_grad():
                network.eval()(torch.zeros(1, *info.shape))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise UserError(f"torchvision's {arch} does not take inputs of shape {info.shape}: {str(error).splitlines()[0]}") from error
        return network.train()

    return make
