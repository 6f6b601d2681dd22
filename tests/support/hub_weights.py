"""Weights of torchvision's networks in torch.hub's cache, as a download would leave them: random ones."""

from pathlib import Path

import torch


def write(home: Path, arch: str, seed: int = 0, **options) -> dict:
    """A network's weights under the name of its file in the folder TORCH_HOME; returns them."""
    from torchvision import models

    file = home / "hub" / "checkpoints" / models.get_model_weights(arch)["DEFAULT"].url.rpartition("/")[2]
    file.parent.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = models.get_model(arch, weights=None, **options).state_dict()
    torch.save(weights, file)
    return weights
