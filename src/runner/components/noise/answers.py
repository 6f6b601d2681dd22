"""The answers of a real crowd, from a table with a line for each answer."""

import csv
from pathlib import Path

import numpy as np
import torch

from runner import UserError, card

CARD = card(
    arxiv="1908.07086",
    source="formats of jcpeterson/cifar-10h, data/cifar10h-raw.csv (Peterson et al. 2019), and of Hyeonsu-Jeong/TopTwo, Datasets/*.txt",
    tasks=("classification",),
)


def read(file: Path, columns: list[str]) -> np.ndarray:
    """(answers, 3) of sample, worker, answer, in the order of the file. Raises ValueError."""
    with file.open(newline="") as stream:
        if all(c.isdecimal() for c in columns):
            lines, places = [line.replace(",", " ").split() for line in stream if line.strip()], [int(c) for c in columns]
        else:
            lines = [line for line in csv.reader(stream) if line]
            names = lines.pop(0) if lines else []
            if missing := [c for c in columns if c not in names]:
                raise ValueError(f"it has no column '{missing[0]}', it has: {', '.join(names)}")
            places = [names.index(c) for c in columns]
    if not lines:
        raise ValueError("it holds no answers")
    if short := [k for k, line in enumerate(lines) if len(line) <= max(places)]:
        raise ValueError(f"its answer {short[0] + 1} is '{' '.join(lines[short[0]])}', which has no column {max(places)}")
    return np.array([[int(line[p]) for p in places] for line in lines])


def build(path: str, columns: list[str] = ("0", "1", "2"), first_sample: int = 0, first_class: int = 0):
    """`side["answers"]` (n, workers) holds each worker's answer to each training sample, -1 where there is none; the label becomes that of the majority.

    Samples are numbered as `side["item"]` (n,) of the data says, else by their order in the training split. Of several answers of a worker to a sample the
    last one counts; answers to other samples, such as checks of attention, are left out; a sample without any is an error. Ties go by chance.

    Args:
        path: a text file with a line for each answer.
        columns: of the sample, the worker and the answer: names, where the file has a header, or places from 0 on, where it has none.
        first_sample: >= 0; the number of the first sample: 1 in files that count from one.
        first_class: >= 0; the number of the first class.
    """
    file = Path(path).expanduser()
    if len(columns) != 3:
        raise ValueError(f"columns takes those of the sample, the worker and the answer, not {len(columns)}")

    def corrupt(data, generator):
        split, classes, n = data.train, data.info.outputs, len(data.train)
        if not file.is_file():
            raise UserError(f"noise/answers: no answers there; looked for {file.absolute()}")
        try:
            found = read(file, list(columns))
        except (ValueError, OSError, csv.Error) as error:
            raise UserError(f"noise/answers: cannot use {file}: {str(error).splitlines()[0]}") from error
        items = split.side["item"].cpu().numpy() if "item" in split.side else np.arange(n)
        place = {int(item) + first_sample: k for k, item in enumerate(items)}
        rows = np.array([place.get(int(item), -1) for item in found[:, 0]])
        rows, worker, answer = rows[rows >= 0], found[rows >= 0, 1], found[rows >= 0, 2] - first_class
        if lacking := n - len(np.unique(rows)):
            raise UserError(f"noise/answers: {file} says nothing of {lacking} of the {n} training samples; see noise.first_sample and noise.columns")
        if answer.min() < 0 or answer.max() >= classes:
            said = f"answers from {answer.min() + first_class} to {answer.max() + first_class}"
            raise UserError(f"noise/answers: {file} has {said}; the {classes} classes begin with noise.first_class={first_class}")
        people, worker = np.unique(worker, return_inverse=True)
        given = np.full((n, len(people)), -1)
        given[rows, worker] = answer  # in the file's order
        votes = torch.from_numpy(np.stack([(given == c).sum(1) for c in range(classes)], 1))
        split.side["answers"] = torch.from_numpy(given)
        split.relabel((votes + torch.rand(n, classes, generator=generator) / 2).argmax(1))

    return corrupt
