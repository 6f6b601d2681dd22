"""CIFAR-100: 60,000 colour photographs of 32x32 pixels in a hundred classes."""

from typing import Literal

from runner import card
from runner.components.data._cifar import cifar
from runner.components.data._images import images

CARD = card(
    source="Krizhevsky 2009, Learning multiple layers of features from tiny images; channel statistics of the training set: kuangliu/pytorch-cifar issue 19",
    tasks=("classification",),
)


def build(
    root: str | None = None,
    download: bool = True,
    train_size: int | None = None,
    test_size: int | None = None,
    val: float = 0.0,
    augment: Literal["none", "crop_flip"] = "none",
    split: int = 0,
    normalise: bool = True,
):
    """A hundred classes, 50,000 training and 10,000 test images.

    Args:
        root: folder with torchvision's files; ~/.cache/runner if not given. Does not change the result.
        download: fetch it where it is not there. Does not change the result.
        train_size: >= 1; train on so many images, as many of each class; all if not given.
        test_size: >= 1; test on so many images, as many of each class; all if not given.
        val: in [0, 1); share of the training images that are split off for validation.
        augment: crop_flip shifts by up to 4 pixels and reflects.
        split: >= 0; which validation images and which subset.
        normalise: by the mean and deviation of each channel; false leaves the inputs in [0, 1], as attacks on them are counted.
    """
    train, test = cifar("CIFAR100", root, download)
    mean, std = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)) if normalise else ((0.0,) * 3, (1.0,) * 3)
    return images(
        train, test, 100, mean, std,
        train_size=train_size, test_size=test_size, val=val, augment=augment, split=split,
    )  # fmt: skip
