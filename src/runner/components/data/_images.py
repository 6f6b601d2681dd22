"""Images that fit on the device: uint8 tensors, scaled and normalised at every fetch, augmented there."""

import torch
from torch import Tensor

from runner.components.data._tables import divide, subset
from runner.core.data import Data, Info, Split

PAD = 4  # He et al. 2016, section 4.2: crops of the image padded by 4 pixels on each side, and their reflections


class Normalise:
    """uint8 images (n, C, H, W) to floats: scaled to [0, 1], then by mean and deviation of each channel; rows where `flat`."""

    def __init__(self, mean: tuple, std: tuple, flat: bool = False):
        self.mean, self.std = (torch.tensor(v).view(-1, 1, 1) for v in (mean, std))
        self.flat = flat

    def __call__(self, x: Tensor) -> Tensor:
        if self.mean.device != x.device:
            self.mean, self.std = self.mean.to(x.device), self.std.to(x.device)
        x = x.float().div_(255).sub_(self.mean).div_(self.std)
        return x.flatten(1) if self.flat else x


def crop_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image (n, C, H, W) shifted by up to 4 pixels, zeros moving in, and reflected with probability 1/2."""
    n, channels, height, width = x.shape
    draw = lambda high: torch.randint(high, (n, 1), generator=generator, device=generator.device).to(x.device)
    rows = torch.arange(height, device=x.device) + draw(2 * PAD + 1)
    columns, flip = torch.arange(width, device=x.device), draw(2)
    columns = torch.where(flip == 1, columns.flip(0), columns) + draw(2 * PAD + 1)
    x = torch.nn.functional.pad(x, (PAD, PAD, PAD, PAD))
    x = x.gather(2, rows[:, None, :, None].expand(-1, channels, -1, x.shape[3]))
    return x.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))


def images(train, test, classes: int, mean, std, *, val=0.0, train_size=None, test_size=None, split=0, flat=False, augment="none") -> Data:
    """Data from the training and test images of a data set.

    Args:
        train, test: (uint8 images (n, C, H, W), classes (n,)).
        mean, std: of each channel in [0, 1], over the whole training set.
    """
    if flat and augment != "none":
        raise ValueError(f"augment={augment} needs images: set flat=false")
    change, transform = crop_flip if augment == "crop_flip" else None, Normalise(mean, std, flat)
    x, y = train
    keep, held = divide(y, val, train_size, split, True)
    shown = subset(test[1], test_size, split, True, "test_size")
    shape = (x[0].numel(),) if flat else tuple(x.shape[1:])
    parts = [Split(x[keep], y[keep], change, transform), Split(test[0][shown], test[1][shown], None, transform)]
    if held is not None:
        parts.append(Split(x[held], y[held], None, transform))
    return Data(Info("classification", shape, classes), *parts)
