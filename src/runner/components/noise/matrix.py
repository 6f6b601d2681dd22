"""Class-conditional label noise with a transition matrix of one's own."""

import csv
from pathlib import Path

import torch

from runner import UserError, card
from runner.components.noise._transition import draw

CARD = card(arxiv="1609.03683", source="Patrini et al. 2017, section 2: T[i, j] = P(noisy label j | true class i)", tasks=("classification",))


def read(path: Path) -> list:
    """The rows of a .npy file, or of a text file with commas or blanks between the numbers. Raises ValueError."""
    if path.suffix == ".npy":
        import numpy as np

        return np.load(path, allow_pickle=False).tolist()
    if path.suffix not in (".csv", ".txt"):
        raise ValueError("its name must end in .npy, .csv or .txt")
    with path.open(newline="") as file:
        return [[float(v) for v in " ".join(row).split()] for row in csv.reader(file) if row]


def checked(rows: list, classes: int) -> torch.Tensor:
    """The matrix (C, C). Raises ValueError where it is none."""
    if len(rows) != classes or any(not isinstance(row, list) or len(row) != classes for row in rows):
        raise ValueError(f"it must have {classes} rows of {classes} numbers, one for each class of the data")
    matrix = torch.tensor(rows, dtype=torch.float64)
    if not ((matrix >= 0) & (matrix <= 1)).all():
        raise ValueError("its entries must be probabilities, in [0, 1]")
    for c, total in enumerate(matrix.sum(1).tolist()):
        if abs(total - 1) > 1e-4:
            raise ValueError(f"row {c} sums to {total:g}, not to 1")
    return matrix


def build(transition: str | list[list[float]]):
    """Each label is drawn from the row of its class.

    Args:
        transition: the matrix as a list of rows, such as [[0.9,0.1],[0.3,0.7]], or a .npy, .csv or .txt file that holds it.
    """

    def corrupt(data, generator):
        rows, where = transition, "noise/matrix"
        try:
            if isinstance(transition, str):
                file = Path(transition).expanduser()
                where = f"noise/matrix: {file}"
                if not file.is_file():
                    raise UserError(f"noise/matrix: no matrix there; looked for {file.absolute()}")
                rows = read(file)
            matrix = checked(rows, data.info.outputs)
        except (ValueError, TypeError, EOFError, OSError) as error:
            raise UserError(f"{where}: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error
        data.train.relabel(draw(data.train.y, matrix, generator))

    return corrupt
