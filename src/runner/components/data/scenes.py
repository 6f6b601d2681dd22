"""Scenes: shapes on a textured ground, and a grid of square windows at several scales, of which few show one shape and most show none, or a part."""

import itertools
import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from runner import card
from runner.components.data._textures import smooth
from runner.components.data._windows import each, labels, stand_for, windows
from runner.core.data import Data, Info, Split
from runner.core.rng import derive

CARD = card(source="synthetic; six shapes of any colour, each touching the four sides of its box", tasks=("detection", "boxes"))
SHAPES = {  # which points (u, v) of the box [-1, 1]^2, v downwards, lie in the shape
    "disc": lambda u, v: u**2 + v**2 <= 1,
    "diamond": lambda u, v: u.abs() + v.abs() <= 1,
    "plus": lambda u, v: torch.minimum(u.abs(), v.abs()) <= 0.35,
    "ring": lambda u, v: (u**2 + v**2 <= 1) & (u**2 + v**2 >= 0.4),
    "square": lambda u, v: u.abs() + v.abs() <= 2,
    "triangle": lambda u, v: 2 * u.abs() <= 1 + v,
}
SIDES, STEP = (0.25, 0.375, 0.5625), 1 / 3
TRIES = 20  # places drawn for each object of a scene, all in all; those that find none are left out


def arrange(size: int, most: int, overlap: float, generator: torch.Generator) -> Tensor:
    """(most, 5): class, x0, y0, x1, y1 of the objects of one scene, at least one of them; rows of absent ones are -1."""
    from torchvision.ops import box_iou

    objects, placed = torch.full((most, 5), -1.0), 0
    count = int(torch.randint(1, most + 1, (), generator=generator))
    for _ in range(TRIES * count):
        if placed == count:
            break
        c, a, b, x, y = torch.rand(5, generator=generator)
        side = size * (0.22 + 0.38 * a)
        wide, high = side * (0.85 + 0.3 * b) ** 0.5, side / (0.85 + 0.3 * b) ** 0.5
        x, y = x * (size - wide), y * (size - high)
        box = torch.stack([x, y, x + wide, y + high])
        if placed == 0 or box_iou(box[None], objects[:placed, 1:]).max() <= overlap:
            objects[placed], placed = torch.cat([(c * len(SHAPES)).floor()[None], box]), placed + 1
    return objects


def draw(n: int, size: int, most: int, overlap: float, hue: float, texture: float, noise: float, generator: torch.Generator):
    """Images (n, 3, size, size) and their objects (n, most, 5), the later ones before the earlier."""
    objects = torch.stack([arrange(size, most, overlap, generator) for _ in range(n)])
    x = texture * smooth(n, size, max(2, size // 8), generator).unsqueeze(1).repeat(1, 3, 1, 1)
    turn = 2 * math.pi * (torch.arange(len(SHAPES)).view(-1, 1) / len(SHAPES) + torch.arange(3) / 3)
    typical = normalize(turn.cos(), dim=-1)[objects[..., 0].long().clamp_min(0)]  # of each class one of six on the circle of hues
    colours = 1.5 * normalize(hue * typical + (1 - hue) * normalize(torch.randn(n, most, 3, generator=generator), dim=-1), dim=-1)
    axis = torch.arange(size) + 0.5
    for i, k in itertools.product(range(n), range(most)):
        c, x0, y0, x1, y1 = objects[i, k]
        if c >= 0:
            u, v = (2 * axis - x0 - x1) / (x1 - x0), (2 * axis - y0 - y1) / (y1 - y0)
            u, v = u.expand(size, size), v.unsqueeze(1).expand(size, size)
            inside = list(SHAPES.values())[int(c)](u, v) & (u.abs() <= 1) & (v.abs() <= 1)
            x[i] = torch.where(inside, colours[i, k, :, None, None] + x[i] / 2, x[i])
    return x + noise * torch.randn(x.shape, generator=generator), objects


def build(
    train_size: int = 200, test_size: int = 200, val_size: int = 200, size: int = 48, most: int = 4, overlap: float = 0.1,
    hue: float = 0.6, texture: float = 0.3, noise: float = 0.3, split: int = 0, boxes: bool = False,
):  # fmt: skip
    """A window's label is the shape that it overlaps most, if with an IoU of 0.5 or more, counted from 1; else 0.

    Classes: disc, diamond, plus, ring, square, triangle. side["objects"] (n, most, 5) holds class (from 0; -1: no object) and box of each object,
    side["owner"] and side["iou"] (n, windows) which of them each window overlaps most, and how much.

    With `boxes` there are no windows: labels (n, most) are the class + 1 of each row of side["objects"], 0 where there is none.

    Args:
        train_size: >= 1; scenes to train on.
        test_size: >= 1; scenes to test on, labelled right.
        val_size: >= 0; scenes for validation, labelled right.
        size: >= 16; pixels of a side.
        most: >= 1; objects of a scene, at least one; fewer where there is no place.
        overlap: in [0, 1]; largest IoU of two objects.
        hue: in [0, 1]; how far a class's hue, and not chance, says the colour of an object.
        texture: >= 0; deviation of smooth changes of brightness; colours of objects have a norm of 1.5.
        noise: >= 0; deviation of the noise of each number of a pixel.
        split: >= 0; which draw of scenes.
        boxes: label objects, for a detector that finds its own boxes, and no windows.
    """
    regions, splits = windows(size, SIDES, STEP), []
    for name, n in (("train", train_size), ("test", test_size), ("val", val_size)):  # each from its own stream: sizes do not change other splits
        if n == 0:
            splits.append(None)
            continue
        x, objects = draw(n, size, most, overlap, hue, texture, noise, torch.Generator().manual_seed(derive(split, "scenes", name)))
        owner, iou = stand_for(objects, regions)
        splits.append(Split(x, each(objects) if boxes else labels(objects, owner, iou)))
        splits[-1].side = {"objects": objects} if boxes else {"objects": objects, "owner": owner, "iou": iou}
    if boxes:
        return Data(Info("boxes", (3, size, size), len(SHAPES) + 1), *splits)
    return Data(Info("detection", (3, size, size), len(SHAPES) + 1, regions=tuple(map(tuple, regions.tolist()))), *splits)
