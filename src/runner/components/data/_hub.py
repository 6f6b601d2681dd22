"""Reading data sets of the Hugging Face hub and local files of its formats: what the options that do share."""

import contextlib
from pathlib import Path

import torch
from torch import Tensor

from runner import UserError
from runner.components._hub import alone, answers
from runner.components.data._files import absent
from runner.components.data._tables import divide, held_out

FORMATS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv", ".arrow": "arrow"}


def local(place: Path, config: str | None):
    """The splits of a file or a folder."""
    import datasets

    if place.is_dir() and any((place / n).is_file() for n in ("dataset_dict.json", "state.json")):
        found = datasets.load_from_disk(str(place))
        return found if isinstance(found, dict) else {"train": found}
    kind = FORMATS.get(place.suffix) if place.is_file() else str(place)
    if kind is None:
        raise UserError(f"data.path={place} is not a file of a known kind: {', '.join(FORMATS)}")
    return datasets.load_dataset(kind, config, **({"data_files": str(place)} if place.is_file() else {}))


def load(path: str, config: str | None):
    """The splits of a data set, name -> rows. Raises UserError."""
    import datasets
    from huggingface_hub import constants

    place, how = Path(path).expanduser(), "set data.path to a local file or a name on the hub, and data.config where it has several"
    try:
        # the library reports the use of local files too
        with alone(datasets.config) if place.exists() or not answers(constants.ENDPOINT) else contextlib.nullcontext():
            return local(place, config) if place.exists() else datasets.load_dataset(path, config)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if place.exists():
            root = error
            while root.__cause__:
                root = root.__cause__
            raise UserError(f"data set '{path}' cannot be read: {' '.join(str(root).split())[:300] or type(root).__name__}; {how}") from error
        places = [place.absolute(), datasets.config.HF_DATASETS_CACHE, f"the hub ({datasets.config.HF_ENDPOINT})"]
        raise absent(f"data set '{path}'", places, how, error) from error


def labels_of(parts: list, label: str) -> tuple[list[Tensor], int]:
    """Class indices of each split and the number of classes; values that are no indices are numbered in their order."""
    feature = parts[0].features[label]
    columns = [list(p[label]) for p in parts]
    if any(v is None for column in columns for v in column):
        raise UserError(f"column '{label}' has samples without a label: choose other splits with data.train, data.test (null: split off), data.val")
    known = list(range(feature.num_classes)) if hasattr(feature, "num_classes") else sorted(set(columns[0]))
    if any(isinstance(v, float) for v in known):
        raise UserError(f"column '{label}' holds numbers that are no classes; set data.task=regression")
    number = {value: k for k, value in enumerate(known)}
    if odd := {v for column in columns for v in column} - set(number):
        raise UserError(f"column '{label}' has a label that training has not: {sorted(map(str, odd))[0]}")
    return [torch.tensor([number[v] for v in column]) for column in columns], len(known)


def splits_of(path: str, config: str | None, names: list[str | None], columns: list[str]) -> list:
    """The splits of these names, but for None, which have these columns. Raises UserError."""
    found, names = load(path, config), [n for n in names if n is not None]
    for name in names:
        if name not in found:
            raise UserError(f"'{path}' has no split '{name}', it has: {', '.join(found)}; choose with data.train, data.test (null: split off), data.val")
    parts = [found[n] for n in names]
    for name, part in zip(names, parts, strict=True):
        if missing := [c for c in columns if c not in part.column_names]:
            known = ", ".join(part.column_names)
            raise UserError(f"'{path}' has no column '{missing[0]}' in its split '{name}', it has: {known}; choose with data.label and data.inputs")
    return parts


def divided(x: list, y: list, test: str | None, share: float, train_size: int | None, split: int, stratify: bool) -> tuple[list, list]:
    """Inputs and labels of the splits: `share` of the training rows as the test where none is named, and so many rows to train on."""
    if test is None:
        kept, out = held_out(y[0], share, split, stratify)
        x, y = [x[0][kept], x[0][out], *x[1:]], [y[0][kept], y[0][out], *y[1:]]
    if len(y[0]) < 2 or not all(map(len, y)):
        raise UserError(f"there are {len(y[0])} rows to train on and {len(y[1])} to test on, which is too few; see data.test, data.val, data.share")
    keep, _ = divide(y[0], 0.0, train_size, split, stratify)
    return [x[0][keep], *x[1:]], [y[0][keep], *y[1:]]
