"""Any data set of the Hugging Face hub, or a local parquet, json, csv or arrow file: numbers as vectors, images as tensors."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from runner import UserError, card
from runner.components.data._hub import divided, labels_of, splits_of
from runner.components.data._images import Normalise
from runner.components.data._tables import standardise
from runner.core.data import Data, Info, Split

CARD = card(source="library `datasets`; no code of the data set is run")


def inputs_of(rows, columns: list[str]) -> tuple[Tensor, bool]:
    """(n, features) floats, or uint8 images (n, C, H, W) and True. Raises UserError for what is neither."""
    import datasets

    if any(isinstance(rows.features[c], datasets.Image) for c in columns):
        if len(columns) > 1:
            raise UserError(f"data.inputs must name one image column, or numeric ones; got {', '.join(columns)}")
        pictures = list(rows[columns[0]])
        if deep := {p.mode for p in pictures if p.mode.startswith(("I", "F"))}:  # a conversion would cut off what is above 255
            raise UserError(f"the images in column '{columns[0]}' have more than 8 bits a channel (mode {min(deep)}): convert them first")
        mode = "L" if all(p.mode in ("L", "1") for p in pictures) else "RGB"
        arrays = [np.asarray(p.convert(mode)).reshape(p.height, p.width, -1) for p in pictures]
        if len({a.shape for a in arrays}) > 1:
            raise UserError(f"the images in column '{columns[0]}' have several sizes: resize them, or use data=image_folder")
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous(), True
    found = rows.select_columns(columns).with_format("numpy")[:]
    parts = []
    for name in columns:
        try:
            part = np.asarray(found[name], dtype=np.float32).reshape(len(rows), -1)
        except (TypeError, ValueError) as error:
            raise UserError(f"column '{name}' is not numbers of one shape; choose others with data.inputs=[...]") from error
        if not np.isfinite(part).all():
            raise UserError(f"column '{name}' has missing values; choose others with data.inputs=[...]")
        parts.append(part)
    return torch.from_numpy(np.concatenate(parts, 1)), False


def build(
    path: str, label: str = "label", inputs: list[str] | None = None, config: str | None = None, train: str = "train", test: str | None = "test",
    val: str | None = None, share: float = 0.2, task: Literal["classification", "regression"] = "classification", train_size: int | None = None, split: int = 0,
):  # fmt: skip
    """Read whole into memory; numbers are standardised by the training rows, images scaled to [-1, 1].

    Args:
        path: name on the hub such as `ylecun/mnist`, a local file, or a folder of files.
        label: column of the labels.
        inputs: columns of the inputs, one image column or numeric ones; all others than the label if not given.
        config: which configuration of a data set that has several.
        train: name of the training split.
        test: name of the test split; null splits `share` off the training rows.
        val: name of the validation split, if one is wanted.
        share: in (0, 1); share of the training rows that are the test where `test` is null.
        task: regression takes the label as a number and standardises it.
        train_size: >= 1; train on so many rows, as many of each class; all if not given.
        split: >= 0; which split and which subset.
    """
    parts = splits_of(path, config, [train, test, val], [label, *(inputs or ())])
    x, pictures = zip(*(inputs_of(p, inputs or [c for c in p.column_names if c != label]) for p in parts), strict=True)
    if all(pictures):  # grey ones become coloured where another split has colours, as within a split
        x = [v.expand(-1, max(w.shape[1] for w in x), -1, -1) for v in x]
    if len(shapes := {tuple(v.shape[1:]) for v in x}) > 1:
        raise UserError(f"the inputs of the splits of '{path}' have several shapes: {', '.join(map(str, sorted(shapes)))}")
    if task == "regression":
        y, outputs = [inputs_of(p, [label])[0] for p in parts], 1
    else:
        y, outputs = labels_of(parts, label)
    stratify = task == "classification"
    x, y = divided(list(x), y, test, share, train_size, split, stratify)
    transform = Normalise((0.5,), (0.5,)) if pictures[0] else None
    x = x if transform else standardise(*x)
    y = y if stratify else standardise(*y)
    return Data(Info(task, tuple(x[0].shape[1:]), outputs), *(Split(a, b, None, transform) for a, b in zip(x, y, strict=True)))
