"""Ellipses on a textured ground: small images in which every pixel has a class, drawn and labelled without an error."""

import math

import torch

from runner import card
from runner.components.data._textures import smooth
from runner.core.data import Data, Info, Split
from runner.core.rng import derive

CARD = card(source="synthetic; classes differ in hue and size, and later ones lie over earlier ones", tasks=("segmentation",))


def draw(n: int, size: int, classes: int, empty: float, texture: float, noise: float, generator: torch.Generator):
    """n images (n, 3, size, size) and the classes of their pixels (n, size, size); 0 is the ground."""
    axis = (torch.arange(size) + 0.5) / size
    rows, columns = axis.view(1, -1, 1), axis.view(1, 1, -1)
    uniform = lambda low, high: low + (high - low) * torch.rand(n, 1, 1, generator=generator)
    shown = torch.rand(n, 1, 1, generator=generator) >= empty
    y = torch.zeros(n, size, size, dtype=torch.long)
    bright = texture * smooth(n, size, max(2, size // 8), generator)
    for c in range(1, classes):
        largest = 0.3 - 0.1 * (c - 1) / max(1, classes - 2)  # radius: from 0.3 of a side, the first class, to 0.2, the last
        a, b, turn = uniform(0.6 * largest, largest), uniform(0.6 * largest, largest), uniform(0, math.pi)
        down, right = rows - uniform(0.2, 0.8), columns - uniform(0.2, 0.8)
        along, across = down * turn.cos() + right * turn.sin(), right * turn.cos() - down * turn.sin()
        inside = ((along / a) ** 2 + (across / b) ** 2 <= 1) & shown
        y[inside] = c
    hue = 2 * math.pi * (torch.arange(classes).view(-1, 1) / (classes - 1) + torch.arange(3) / 3)
    colours = hue.cos() * (torch.arange(classes) > 0).view(-1, 1)  # the ground is grey, the classes lie on the circle of hues
    x = (colours[y] * uniform(0.6, 1.4).unsqueeze(-1)).permute(0, 3, 1, 2) + bright.unsqueeze(1)
    return x + noise * torch.randn(x.shape, generator=generator), y


def build(
    train_size: int = 200, test_size: int = 200, val_size: int = 100, classes: int = 4, size: int = 32, empty: float = 0.0,
    texture: float = 0.5, noise: float = 0.5, split: int = 0,
):  # fmt: skip
    """One ellipse of each class in an image, the ground being class 0; a class that others cover is not seen.

    Args:
        train_size: >= 1; images to train on.
        test_size: >= 1; images to test on, labelled right.
        val_size: >= 0; images for validation, labelled right.
        classes: >= 2; with the ground.
        size: >= 8; pixels of a side.
        empty: in [0, 1); share of the images, of all splits, that show the ground alone.
        texture: >= 0; deviation of smooth changes of brightness; the colours of classes have an amplitude of 0.6 to 1.4.
        noise: >= 0; deviation of the noise of each number of a pixel.
        split: >= 0; which draw of images.
    """
    splits = []
    for name, n in (("train", train_size), ("test", test_size), ("val", val_size)):  # each from its own stream: sizes do not change other splits
        generator = torch.Generator().manual_seed(derive(split, "ellipses", name))
        splits.append(Split(*draw(n, size, classes, empty, texture, noise, generator)) if n else None)
    return Data(Info("segmentation", (3, size, size), classes), *splits)
