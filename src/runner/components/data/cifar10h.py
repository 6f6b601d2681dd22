"""CIFAR-10 as CIFAR-10H has it: its 10,000 test photographs, about which some fifty people each were asked, are those to train on."""

from typing import Literal

import torch

from runner import card
from runner.components.data._cifar import cifar
from runner.components.data._images import Normalise, crop_flip
from runner.core.data import Data, Info, Split
from runner.core.rng import derive

CARD = card(
    arxiv="1908.07086",
    source="Peterson et al. 2019; ten folds, what they are tested on and statistics of channels of Hyeonsu-Jeong/TopTwo, CIFAR10H/dataloader_c10h.py",
    tasks=("classification",),
)
FOLDS = 10


def build(root: str | None = None, download: bool = True, fold: int = 0, augment: Literal["none", "crop_flip"] = "none", split: int = 0):
    """Nine tenths of CIFAR-10's test images to train on, the other tenth for validation, and its 50,000 training images as the test.

    `side["item"]` (n,) says which of the 10,000 a training image is, as noise=answers asks.

    Args:
        root: folder with torchvision's files of CIFAR-10; ~/.cache/runner if not given. Does not change the result.
        download: fetch it where it is not there. Does not change the result.
        fold: in [0, 9]; which tenth is for validation.
        augment: crop_flip shifts by up to 4 pixels and reflects.
        split: >= 0; which division into tenths.
    """
    test, (x, y) = cifar("CIFAR10", root, download)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(derive(split, "cifar10h")))
    held = order.tensor_split(FOLDS)[fold].sort()[0]
    kept = torch.cat([part for k, part in enumerate(order.tensor_split(FOLDS)) if k != fold]).sort()[0]
    transform = Normalise((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    train = Split(x[kept], y[kept], crop_flip if augment == "crop_flip" else None, transform)
    train.side["item"] = kept
    return Data(Info("classification", tuple(x.shape[1:]), 10), train, Split(*test, None, transform), Split(x[held], y[held], None, transform))
