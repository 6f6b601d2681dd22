"""MATH's problems with their written solutions, and slips in these."""

import json
import re
from pathlib import Path

import torch

from runner import UserError
from runner.components._boxed import last_box
from runner.components.data._files import absent

WORD, STEP = re.compile(r"\\?[A-Za-z]+|[0-9]+|\S"), re.compile(r"(?<=[.!?])\s+|\n")


def tasks(folder: Path, level: int, most: int = 5) -> list[tuple[str, str]]:
    """Problem and solution of all of these levels, `level` to `most`, whose solution has an answer in a box, in the order of their files. Raises UserError."""
    found, files = [], sorted(folder.glob("*/*.json"))
    if not files:
        raise absent(f"the {folder.name} split of MATH", [folder / "SUBJECT" / "*.json"], "set data.root to MATH unpacked, see hendrycks/math on GitHub")
    for file in files:
        try:
            task = json.loads(file.read_text(encoding="utf-8"))
            problem, solution, rank = task["problem"].strip(), task["solution"].strip(), task["level"][-1:]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file} is damaged, or no problem as MATH has them ({error!r}); remove it and get it again") from error
        if last_box(solution)[1].strip() and level <= (int(rank) if rank in tuple("12345") else 1) <= most:
            found.append((problem, solution))
    return found


def written(path: str, key: str) -> list[tuple[str, str]]:
    """Problem and solution of each line {"problem": ..., "solution": ...} of the file that `key` of the configuration names. Raises UserError."""
    file = Path(path).expanduser()
    try:
        lines = file.read_bytes().split(b"\n")  # a text may have other ends of lines within
    except OSError as error:
        raise UserError(f"{key}={file} cannot be read: {error.strerror or error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            task = json.loads(line)
            found.append((task["problem"].strip(), task["solution"].strip()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f'{file}, line {number}, is not {{"problem": "...", "solution": "..."}} ({error!r})') from error
    if not found:
        raise UserError(f"{key}={file} is empty")
    return found


def slip(solutions: list, outcome: float, step: float, numbers: dict, answers: dict, g: torch.Generator) -> None:
    """Other answers in a share `outcome` of the solutions, other numbers in steps of these: in all a share `step` of all steps with numbers and answers.

    Args:
        solutions: of each its steps, lists of words; the last one holds the answer alone. They are changed.
        outcome: in [0, 1].
        step: in [0, 1].
        numbers: the words that are numbers -> 0, 1, ...
        answers: the same of answers.
        g: of the draws.

    Raises:
        ValueError: shares that cannot be both.
    """
    able = [[k for k, words in enumerate(steps[:-1]) if any(w in numbers for w in words)] for steps in solutions]
    wrong, every = round(outcome * len(solutions)), len(solutions) + sum(map(len, able))
    chosen, total = torch.randperm(len(solutions), generator=g)[:wrong].tolist(), round(step * every)
    places = [(i, k) for i in chosen for k in able[i]]
    most = wrong + len(places)
    if not wrong <= total <= most:
        raise ValueError(f"{outcome:.0%} wrong solutions have here between {wrong / every:.1%} and {most / every:.1%} wrong steps, not {step:.1%}")
    for i, k in [*((i, -1) for i in chosen), *(places[j] for j in torch.randperm(len(places), generator=g)[: total - wrong].tolist())]:
        words, place = solutions[i][k], answers if k < 0 else numbers
        kinds, added = list(place), torch.randint(1, len(place), (len(words),), generator=g).tolist()
        words[:] = [kinds[(place[w] + a) % len(kinds)] if w in place else w for w, a in zip(words, added, strict=True)]
