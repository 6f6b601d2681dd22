"""SVHN: 99,289 colour photographs of house numbers, cropped to one digit of 32x32 pixels."""

from pathlib import Path
from typing import Literal

import torch
from torchvision.datasets import SVHN

from runner import card
from runner.components.data._files import absent, cache, fetch
from runner.components.data._images import images

CARD = card(
    source="Netzer et al. 2011, Reading digits in natural images; channel statistics of the training set",
    tasks=("classification",),
)


def _load(root, download):
    """[(uint8 (n, 3, 32, 32), digits (n,)), ...] of training and test."""

    folder, parts = Path(root).expanduser() if root else cache(), []
    for part in ("train", "test"):
        url, file, md5 = SVHN.split_list[part]
        how = f"set data.root=FOLDER of {file}, or get it where there is a network: data.download=true, or {url}"
        try:
            if download:
                fetch(url, folder / file, md5)
            found = SVHN(folder, part, download=False)
        except (RuntimeError, OSError) as error:
            raise absent("SVHN", [folder / file], how, error if download else "") from error
        parts.append((torch.from_numpy(found.data).contiguous(), torch.from_numpy(found.labels)))
    return parts


def build(
    root: str | None = None,
    download: bool = True,
    train_size: int | None = None,
    test_size: int | None = None,
    val: float = 0.0,
    augment: Literal["none", "crop_flip"] = "none",
    split: int = 0,
):
    """Ten classes, 73,257 training and 26,032 test images.

    Args:
        root: folder with train_32x32.mat and test_32x32.mat; ~/.cache/runner if not given. Does not change the result.
        download: fetch it where it is not there. Does not change the result.
        train_size: >= 1; train on so many images, as many of each class; all if not given.
        test_size: >= 1; test on so many images, as many of each class; all if not given.
        val: in [0, 1); share of the training images that are split off for validation.
        augment: crop_flip shifts by up to 4 pixels and reflects.
        split: >= 0; which validation images and which subset.
    """
    train, test = _load(root, download)
    return images(
        train, test, 10, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970),
        train_size=train_size, test_size=test_size, val=val, augment=augment, split=split,
    )  # fmt: skip
