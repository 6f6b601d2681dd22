"""The answers of a real crowd, from a table with a line for each answer."""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from runner import UserError, card

CARD = card(
    arxiv="1908.07086",
    source="formats of jcpeterson/cifar-10h, data/cifar10h-raw.csv (Peterson et al. 2019), and of Hyeonsu-Jeong/TopTwo, Datasets/*.txt",
    tasks=("classification",),
)


def read(file: Path, columns: list[str]) -> list[tuple[int, str, int]]:
    """Sample, worker and answer, in the order of the file. Raises ValueError."""
    with file.open(newline="", encoding="utf-8-sig") as stream:
        text = [line for line in stream if line.strip()]
        lines = list(csv.reader(text)) if text and "," in text[0] else [line.split() for line in text]
        if all(c.isdecimal() for c in columns):
            places = [int(c) for c in columns]
        else:
            names = lines.pop(0) if lines else []
            if missing := [c for c in columns if c not in names]:
                raise ValueError(f"it has no column '{missing[0]}', it has: {', '.join(names)}")
            places = [names.index(c) for c in columns]
    if not lines:
        raise ValueError("it holds no answers")
    if short := [k for k, line in enumerate(lines) if len(line) <= max(places)]:
        raise ValueError(f"its answer {short[0] + 1} is '{' '.join(lines[short[0]])}', which has no column {max(places)}")
    sample, worker, answer = places
    return [(int(line[sample]), line[worker].strip(), int(line[answer])) for line in lines]


def build(path: str, columns: list[str] = ("0", "1", "2"), first_sample: int = 0, first_class: int = 0):
    """`side["answers"]` (n, workers) holds each worker's answer to each training sample, -1 where there is none; the label becomes that of the majority.

    Samples are numbered as `side["item"]` (n,) of the data says, else by their order in the training split. Of several answers of a worker to a sample the
    last one counts; answers to other samples, such as checks of attention, are left out; a sample without any is an error. Ties go by chance.

    Args:
        path: a text file with a line for each answer.
        columns: of the sample, the worker and the answer: names, where the file has a header, or places such as ['1', '0', '2'], where it has none.
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
        place = defaultdict(list)  # a sample may be there twice
        for k, item in enumerate(split.side["item"].tolist() if "item" in split.side else range(n)):
            place[item + first_sample].append(k)
        if "item" not in split.side and (last := max(sample for sample, _, _ in found)) >= n + first_sample:
            raise UserError(
                f"noise/answers: {file} answers about sample {last}, but the training split has {n}: is it a part of the data? see noise.first_sample"
            )
        kept = [(k, worker, answer - first_class) for sample, worker, answer in found for k in place.get(sample, ())]
        rows, worker, answer = (np.array([entry[k] for entry in kept]) for k in range(3))
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
