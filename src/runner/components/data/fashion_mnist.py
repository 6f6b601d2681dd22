"""Fashion-MNIST: 70,000 grey photographs of clothing of 28x28 pixels in ten classes."""

import gzip
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from runner import UserError, card
from runner.components.data._files import absent, cache, fetch
from runner.components.data._images import images

CARD = card(arxiv="1708.07747", source="zalandoresearch/fashion-mnist; mean and deviation of the training set", tasks=("classification",))
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def read_idx(file: Path) -> torch.Tensor:
    """The bytes of an IDX file, plain or gzipped, in their shape. Raises UserError where it is damaged."""
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        shape = np.frombuffer(raw, ">u4", count=raw[3], offset=4)
        return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy())
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise UserError(f"{file} is damaged ({error}); remove it and get it again") from error


def _find(root: str | None) -> list[Path]:
    places = [Path(root).expanduser(), Path(root).expanduser() / "FashionMNIST" / "raw"] if root else [DEBIAN, cache() / "fashion-mnist"]
    for place in places:
        found = [next((f for f in (place / f"{n}.gz", place / n) if f.is_file()), None) for n in FILES]
        if all(found):
            return found
    how = "get it with 'apt install dataset-fashion-mnist', set data.root=FOLDER of the four IDX files, or run where there is a network without data.root"
    if root:
        raise absent("Fashion-MNIST", places, how)
    from torchvision.datasets import FashionMNIST

    try:
        for name, md5 in FashionMNIST.resources:
            fetch(FashionMNIST.mirrors[0] + name, places[-1] / name, md5)
    except OSError as error:
        raise absent("Fashion-MNIST", places, how, error) from error
    return [places[-1] / f"{n}.gz" for n in FILES]


def build(
    root: str | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
    val: float = 0.0,
    flat: bool = False,
    augment: Literal["none", "crop_flip"] = "none",
    split: int = 0,
):
    """Ten classes, 60,000 training and 10,000 test images.

    Args:
        root: folder of the four IDX files; if not given, Debian's package, else a download into ~/.cache/runner.
            Does not change the result.
        train_size: >= 1; train on so many images, as many of each class; all if not given.
        test_size: >= 1; test on so many images, as many of each class; all if not given.
        val: in [0, 1); share of the training images that are split off for validation.
        flat: inputs of shape (784,) rather than (1, 28, 28).
        augment: crop_flip shifts by up to 4 pixels and reflects.
        split: >= 0; which validation images and which subset.
    """
    x, y, test_x, test_y = map(read_idx, _find(root))
    return images(
        (x.unsqueeze(1), y.long()), (test_x.unsqueeze(1), test_y.long()), 10, (0.2860,), (0.3530,),
        train_size=train_size, test_size=test_size, val=val, flat=flat, augment=augment, split=split,
    )  # fmt: skip
