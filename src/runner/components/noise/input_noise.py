"""Noisy training inputs: Gaussian, or salt and pepper. Labels stay as they are."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from runner import UserError, card
from runner.core.rng import derive

CARD = card(source="Gonzalez & Woods, Digital Image Processing, section 5.2; salt and pepper as scikit-image's random_noise", off={"strength": 0.0})


def change(x: Tensor, rows: Tensor, kind: str, strength: float, seed: int) -> Tensor:
    """Each input with noise of its own: it depends on the sample's index alone, not on the batch or order in which it is read."""
    if not x.is_floating_point():
        raise UserError("noise/input_noise is for inputs of real numbers")
    stream = torch.Generator()
    noisy = x.clone()
    for sample, row in zip(noisy, rows.tolist(), strict=True):
        stream.manual_seed(derive(seed, row))
        if kind == "gaussian":
            sample += strength * torch.randn(sample.shape, generator=stream).to(sample)
        else:
            low, high = sample.min(), sample.max()
            u = torch.rand(sample.shape, generator=stream).to(sample.device)
            sample[u < strength] = high
            sample[u < strength / 2] = low
    return noisy


def build(strength: float = 0.1, kind: Literal["gaussian", "salt_pepper"] = "gaussian"):
    """x + strength * normal noise, or a share `strength` of the entries set to the input's smallest or largest value, as likely.

    Args:
        strength: >= 0; standard deviation of the Gaussian, or share of the entries that are replaced.
        kind: gaussian or salt_pepper.
    """
    if kind == "salt_pepper" and strength > 1:
        raise ValueError(f"strength={strength} is a share of the entries with kind=salt_pepper: at most 1")

    def corrupt(data, generator):
        seed = int(torch.randint(2**62, (), generator=generator))
        data.train.corrupt(partial(change, kind=kind, strength=strength, seed=seed))

    return corrupt
