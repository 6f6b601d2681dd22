"""A folder of images, one folder a class (as ImageNet is kept): read, cropped and reflected by worker processes."""

from pathlib import Path

import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from runner import UserError, card
from runner.components.data._files import absent
from runner.components.data._tables import held_out
from runner.core.data import Data, Info, LoadedSplit

CARD = card(
    arxiv="1409.4842",
    source="crops of 8 to 100 % of the area (Szegedy et al. 2015, section 6), then as torchvision's reference for ImageNet",
    tasks=("classification",),
)
NAMES = {"train": ("train",), "test": ("test", "val", "validation"), "val": ("val", "validation")}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(path: str):
    """An image file, in colour. Raises UserError."""
    try:
        with Image.open(path) as found:
            if found.mode.startswith(("I", "F")):  # the conversion would cut off what is above 255
                raise ValueError(f"it has more than 8 bits a channel (mode {found.mode})")
            return found.convert("RGB")
    except Exception as error:  # what a damaged file raises is the library's affair
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} cannot be read as an image: {said}; remove it or put a whole one there") from error


def build(
    root: str, size: int = 224, resize: int | None = None, crop: float = 0.08, workers: int = 4,
    augment: bool = True, share: float | None = None, split: int = 0,
):  # fmt: skip
    """ROOT/train/CLASS/*.jpg and ROOT/test/CLASS/*.jpg (or ROOT/val); with both test and val, val is the validation split.

    Args:
        root: folder that holds train/ and test/ or val/, or train/ alone where a share of it is the test.
        size: >= 1; pixels of a side of the square that the model sees.
        resize: >= 1; shorter side of a test image before its centre is cut out; size * 256 / 224 if not given.
        crop: in (0, 1]; smallest share of the area of a training image that is cut out.
        workers: >= 0; processes that read images; 0 reads in the run itself. Does not change the result.
        augment: crop and reflect training images; false shows them as test images are shown.
        share: in (0, 1); share of each class in train/ that is the test, where there is no folder test/ or val/.
        split: >= 0; which images these are.
    """

    resize = resize or round(size * 256 / 224)
    if resize < size:
        raise ValueError(f"resize={resize} is smaller than size={size}")
    base = Path(root).expanduser()
    end = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    plain = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(size), *end])
    cropped = transforms.Compose([transforms.RandomResizedCrop(size, (crop, 1.0)), transforms.RandomHorizontalFlip(), *end])
    folders = {split: next((base / n for n in names if (base / n).is_dir()), None) for split, names in NAMES.items()}
    if share is not None and folders["test"] is not None:
        raise UserError(f"data.share={share} makes a test split of train/, but there is {folders['test']}; set data.share=null")
    for part in ("train", "test") if share is None else ("train",):
        if folders[part] is None:
            places = [base / n for n in NAMES[part]]
            how = "set data.root to the folder that holds train/CLASS/*.jpg" + (" and val/CLASS/*.jpg, or data.share" if share is None else "")
            raise absent(f"the {part} split of the image folder", places, how)
    if folders["val"] == folders["test"]:
        folders["val"] = None
    splits, classes = {}, None
    for part, folder in folders.items():
        if folder is None:
            continue
        try:
            found = ImageFolder(str(folder), loader=picture)
        except FileNotFoundError as error:
            raise absent(f"the {part} split of the image folder", [folder], f"it must hold a folder of images for each class ({str(error)[:120]})") from error
        if classes is not None and found.classes != classes:
            odd = sorted({*classes} ^ {*found.classes})
            raise UserError(f"{folder} has other classes than {folders['train']}: {', '.join(odd[:5])}")
        classes = found.classes
        splits[part] = LoadedSplit(found, torch.tensor(found.targets), cropped if part == "train" and augment else None, plain, workers)
    if share is not None:
        train, splits["test"] = splits["train"], LoadedSplit(found, splits["train"].y, None, plain, workers)
        for part, rows in zip((train, splits["test"]), held_out(train.y, share, split, True), strict=True):
            if not len(rows):
                raise UserError(f"data.share={share} of the {len(found)} images of {base} leaves a split empty")
            part.resample(rows)
    return Data(Info("classification", (3, size, size), len(classes)), splits["train"], splits["test"], splits.get("val"))
