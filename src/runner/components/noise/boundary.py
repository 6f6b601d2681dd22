"""Boundary noise: masks that are too large, too small or out of place, as hurried annotators draw them."""

import torch
from torch.nn import functional as F

from runner import UserError, card

CARD = card(
    arxiv="2110.03740",
    source="Liu et al. 2022; authors' code Kangningthu/ADELE, SegThor/brat/loading.py (dilated masks cover the ground alone, eroded ones leave it; there one "
    "kind an image, and a width that grows with the root of the mask's area)",
    off={"rate": 0.0},
    tasks=("segmentation",),
)
KINDS = ("dilate", "erode", "shift")


def dilate(mask, width: int):
    """The mask (n, H, W), and all pixels within `width` steps of it, diagonal ones included."""
    return F.max_pool2d(mask.float()[:, None], 2 * width + 1, 1, width)[:, 0] > 0


def erode(mask, width: int):
    """What is left of the mask `width` steps from its border; the border of the image is none of the mask's."""
    return ~dilate(~mask, width)


def shift(mask, down: int, right: int):
    """The mask moved; what leaves the image is lost."""
    h, w = mask.shape[-2:]
    d, r = abs(down), abs(right)
    return F.pad(mask, (r, r, d, d))[..., d - down : d - down + h, r - right : r - right + w]


def build(rate: float = 0.7, width: list[int] = (2,), kinds: list[str] = ("dilate", "erode")):
    """Each class's mask in each image is changed with probability `rate`, in a way drawn from `kinds`; pixels given up go to the ground, class 0.

    A mask that grows or moves takes pixels of the ground alone. Changes training labels; those of validation and test stay right.

    Args:
        rate: in [0, 1]; share of the masks that are changed.
        width: >= 0; most pixels that a border moves, drawn from 1 to it: one number for all classes, or one for each class but the ground.
        kinds: of change: dilate, erode, shift.
    """
    if unknown := set(kinds) - {*KINDS}:
        raise ValueError(f"kinds={sorted(unknown)[0]} is not one of {', '.join(KINDS)}")
    if not kinds:
        raise ValueError(f"kinds is empty; it takes {', '.join(KINDS)}")

    def corrupt(data, generator):
        y, classes = data.train.y, data.info.outputs
        if len(width) not in (1, classes - 1):
            raise UserError(f"noise.boundary.width has {len(width)} numbers; it takes one, or one for each of the {classes - 1} classes beside the ground")
        noisy = y.clone()
        for c in range(1, classes):
            most = width[(c - 1) % len(width)]
            hit = torch.rand(len(y), generator=generator) < rate
            kind = torch.randint(len(kinds), (len(y),), generator=generator)
            steps = torch.randint(1, max(1, most) + 1, (len(y),), generator=generator)
            way = torch.randint(4, (len(y),), generator=generator)
            for i in hit.nonzero()[:, 0].tolist() if most else ():
                mask, w, (down, right) = (y[i] == c)[None], int(steps[i]), ((1, 0), (-1, 0), (0, 1), (0, -1))[way[i]]
                name = kinds[kind[i]]
                new = {"dilate": dilate, "erode": erode}[name](mask, w) if name != "shift" else shift(mask, w * down, w * right)
                noisy[i][(mask & ~new)[0]] = 0
                noisy[i][(new & (y[i] == 0))[0]] = c
        data.train.relabel(noisy)

    return corrupt
