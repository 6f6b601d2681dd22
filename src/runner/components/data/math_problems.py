"""MATH: 12,500 problems of mathematics competitions with written solutions, and slips in these: how well do wrong solutions teach hard tasks?"""

from collections import Counter
from pathlib import Path

import torch

from runner import UserError, card
from runner.components._boxed import canonical, last_box
from runner.components.data._math import STEP, WORD, slip, tasks
from runner.core.data import Data, Info, Split
from runner.core.rng import derive

CARD = card(
    source="Hendrycks et al. 2021 (2103.03874); hendrycks/math, modeling/dataset, util.py: last box, MATH.py: loss on the solution, too long ones left out",
    tasks=("language",),
)
UNKNOWN, SEPARATOR, OTHERS = 1, 2, 3  # 0 is padding


def read(folder: Path, level: int, length: int, solution: int) -> tuple[list, list]:
    """Problems as words, and their solutions as steps of words, of which the last is the answer. Raises UserError."""
    found = []
    for problem, written in tasks(folder, level):
        before, answer, _ = last_box(written)
        steps = [*filter(None, map(WORD.findall, STEP.split(before))), [canonical(answer)]]
        if sum(map(len, steps)) <= solution:
            found.append((WORD.findall(problem)[-length:], steps))
    if not found:
        raise UserError(f"{folder} has no problem of data.level={level} or more with a solution of data.solution={solution} words or less")
    return tuple(map(list, zip(*found, strict=True)))


def build(
    root: str, level: int = 1, length: int = 256, solution: int = 512, vocabulary: int = 10_000, outcome_error: float = 0, step_error: float = 0, split: int = 0
):
    """x = [problem, separator, solution but its end], y = solution, at the last positions: its words before the last box, padding, what the box holds.

    This answer is one token, of those in training: in a test others cannot be had right, unless they are words. Words are letters, with a backslash or not,
    digits, or another sign. Problems are padded and cut at their beginning, longer solutions and those without a box left out. Ids: 0 padding, 1 unknown,
    2 separator, answers, most frequent words of training. Steps are sentences or lines with a number, and the answer; slips draw others, in training only.

    Args:
        root: folder of train and test.
        level: in [1, 5]; least one of a task; one whose level is not known has 1.
        length: >= 1; words of a problem.
        solution: >= 1; words of a solution, the answer among them.
        vocabulary: >= 4; ids at most.
        outcome_error: in [0, 1]; share of the solutions with a wrong answer; only these have slips.
        step_error: in [0, 1]; share of all steps that are slips; none where outcome_error is 0.
        split: >= 0; which draw of slips.
    """
    (problems, solutions), held = (read(Path(root).expanduser() / name, level, length, solution) for name in ("train", "test"))
    answers = {a: k for k, a in enumerate(sorted({steps[-1][0] for steps in solutions}))}
    if len(answers) > vocabulary - OTHERS:
        raise ValueError(f"vocabulary={vocabulary} is less than the {len(answers)} answers in training and {OTHERS} other ids")
    counts = Counter(w for words in (*problems, *(s for steps in solutions for s in steps[:-1])) for w in words if w not in answers)
    ids = {w: k for k, w in enumerate([*answers, *sorted(counts, key=lambda w: (-counts[w], w))][: vocabulary - OTHERS], OTHERS)}
    if outcome_error:
        numbers = {w: k for k, w in enumerate(sorted(filter(str.isdecimal, ids)))}
        slip(solutions, outcome_error, step_error, numbers, answers, torch.Generator().manual_seed(derive(split, "math_problems")))

    def sample(problem, steps):
        asked, written = ([ids.get(w, UNKNOWN) for s in part for w in s] for part in ([problem], steps))
        return [0] * (length - len(asked)) + asked + [SEPARATOR] + written[:-1] + [0] * (solution - len(written)) + written[-1:]

    rows = [torch.tensor([*map(sample, *part)]) for part in ((problems, solutions), held)]
    return Data(Info("language", (length + solution,), OTHERS + len(ids), predicted=solution), *(Split(r[:, :-1], r[:, -solution:]) for r in rows))
