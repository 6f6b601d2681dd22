"""Classifiers as torchvision trained them: their weights lie in torch.hub's cache, or are fetched into it where there is a network."""

import contextlib
import http.client
import sys
from pathlib import Path

import torch

from runner import UserError
from runner.components._hub import answers
from runner.core.errors import nearest


def check(arch: str, weights: str | None = None) -> None:
    """Raises ValueError for a classifier, or weights of it, that torchvision does not know."""
    from torchvision import models

    known = models.list_models(module=models)
    if arch not in known:
        raise ValueError(f"torchvision has no classifier '{arch}'{nearest(arch, known)}")
    names = [w.name for w in models.get_model_weights(arch)]
    if weights not in (None, *names):
        raise ValueError(f"torchvision has no weights '{weights}' of {arch}: it has {', '.join(names)}")


def trained(arch: str, weights: str = "DEFAULT"):
    """A trained network in evaluation mode, without second classifiers, for images normalised as ImageNet's. Torch's random stream stays as it was.

    Args:
        arch: name such as resnet18.
        weights: name such as IMAGENET1K_V1; torchvision's best if not given.

    Raises:
        UserError: the weights are not on this machine and cannot be fetched, or the file is damaged.
    """
    from torchvision import models

    chosen = models.get_model_weights(arch)[weights]
    file = Path(torch.hub.get_dir(), "checkpoints", chosen.url.rpartition("/")[2])

    def absent(why: str) -> UserError:
        what = f"the weights {chosen.name} of torchvision's {arch} are not on this machine"
        return UserError(f"{what}: looked in {file} ({why}); put {chosen.url} there, or set TORCH_HOME to the folder that holds hub/checkpoints/{file.name}")

    if not file.is_file() and not answers(chosen.url):
        raise absent("no network, or RUNNER_OFFLINE or HF_HUB_OFFLINE is set")
    try:
        with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(sys.stderr):  # where it says what it fetches
            network = models.get_model(arch, weights=chosen, progress=False)
    except (OSError, http.client.HTTPException) as error:
        raise absent(str(error)) from error
    except Exception as error:  # what a damaged file raises is the library's affair
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{file} cannot be used as the weights of torchvision's {arch}: {said}; remove it") from error
    if hasattr(network, "AuxLogits"):  # inception_v3 keeps it
        network.aux_logits, network.AuxLogits = False, None
    return network.eval()
