"""Any data set of the Hugging Face hub, or a local parquet, json, csv or arrow file: numbers as vectors, images as tensors."""

import contextlib
import os
import urllib.request
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from runner import UserError, card
from runner.components.data._files import absent
from runner.components.data._images import Normalise
from runner.components.data._tables import divide, held_out, standardise
from runner.core.data import Data, Info, Split

CARD = card(source="library `datasets`; no code of the data set is run")
FORMATS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv", ".arrow": "arrow"}


@contextlib.contextmanager
def quick():
    """Where the hub cannot be reached, read from the library's cache at once instead of retrying for long."""
    import datasets
    import huggingface_hub.constants as hub

    flags = [(datasets.config, "HF_HUB_OFFLINE"), (hub, "HF_HUB_OFFLINE")]
    before = [getattr(*flag) for flag in flags]
    try:
        if os.environ.get("RUNNER_OFFLINE"):
            raise OSError("RUNNER_OFFLINE is set")
        if not any(before):
            urllib.request.urlopen(urllib.request.Request(hub.ENDPOINT, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except OSError:
        for flag in flags:
            setattr(*flag, True)
    try:
        yield
    finally:
        for flag, value in zip(flags, before, strict=True):
            setattr(*flag, value)


def load(path: str, config: str | None):
    """The splits of a data set, name -> rows. Raises UserError."""
    import datasets

    place = Path(path).expanduser()
    try:
        if place.is_dir() and any((place / n).is_file() for n in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(str(place))
            return found if isinstance(found, dict) else {"train": found}
        if place.exists():
            kind = FORMATS.get(place.suffix) if place.is_file() else str(place)
            if kind is None:
                raise UserError(f"data.path={path} is not a file of a known kind: {', '.join(FORMATS)}")
            return datasets.load_dataset(kind, config, **({"data_files": str(place)} if place.is_file() else {}))
        with quick():
            return datasets.load_dataset(path, config)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        places = [place.absolute(), datasets.config.HF_DATASETS_CACHE, f"the hub ({datasets.config.HF_ENDPOINT})"]
        raise absent(f"data set '{path}'", places, "set data.path to a local file or a name on the hub, and data.config where it has several", error) from error


def inputs_of(rows, columns: list[str]) -> tuple[Tensor, bool]:
    """(n, features) floats, or uint8 images (n, C, H, W) and True. Raises UserError for what is neither."""
    import datasets

    if any(isinstance(rows.features[c], datasets.Image) for c in columns):
        if len(columns) > 1:
            raise UserError(f"data.inputs must name one image column, or numeric ones; got {', '.join(columns)}")
        pictures = list(rows[columns[0]])
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


def labels_of(parts: list, label: str) -> tuple[list[Tensor], int]:
    """Class indices of each split and the number of classes; values that are no indices are numbered in their order."""
    feature = parts[0].features[label]
    columns = [list(p[label]) for p in parts]
    known = list(range(feature.num_classes)) if hasattr(feature, "num_classes") else sorted(set(columns[0]))
    if any(isinstance(v, float) for v in known):
        raise UserError(f"column '{label}' holds numbers that are no classes; set data.task=regression")
    number = {value: k for k, value in enumerate(known)}
    if odd := {v for column in columns for v in column} - set(number):
        raise UserError(f"column '{label}' has a label that training has not: {sorted(map(str, odd))[0]}")
    return [torch.tensor([number[v] for v in column]) for column in columns], len(known)


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
    found = load(path, config)
    names = [n for n in (train, test, val) if n is not None]
    for name in names:
        if name not in found:
            raise UserError(f"'{path}' has no split '{name}', it has: {', '.join(found)}; choose with data.train, data.test (null: split off), data.val")
    parts = [found[n] for n in names]
    for column in (label, *(inputs or ())):
        if column not in parts[0].column_names:
            raise UserError(f"'{path}' has no column '{column}', it has: {', '.join(parts[0].column_names)}; choose with data.label and data.inputs")
    x, pictures = zip(*(inputs_of(p, inputs or [c for c in p.column_names if c != label]) for p in parts), strict=True)
    if task == "regression":
        y, outputs = [inputs_of(p, [label])[0] for p in parts], 1
    else:
        y, outputs = labels_of(parts, label)
    stratify, x = task == "classification", list(x)
    if test is None:
        kept, out = held_out(y[0], share, split, stratify)
        x, y = [x[0][kept], x[0][out], *x[1:]], [y[0][kept], y[0][out], *y[1:]]
    keep, _ = divide(y[0], 0.0, train_size, split, stratify)
    x[0], y[0] = x[0][keep], y[0][keep]
    transform = Normalise((0.5,), (0.5,)) if pictures[0] else None
    x = x if transform else standardise(*x)
    y = y if stratify else standardise(*y)
    return Data(Info(task, tuple(x[0].shape[1:]), outputs), *(Split(a, b, None, transform) for a, b in zip(x, y, strict=True)))
