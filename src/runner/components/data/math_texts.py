"""MATH as the tokens of a pretrained language model: problems with written solutions, and slips in these."""

import functools
import itertools
import re
from pathlib import Path

import torch

from runner import UserError, card
from runner.components._boxed import canonical, last_box
from runner.components._hub import tokenizer as tokenizer_of
from runner.components._words import Spelled
from runner.components.data._math import STEP, WORD, slip, tasks, written
from runner.core.data import Data, Split
from runner.core.rng import derive

CARD = card(
    source="Hendrycks et al. 2021 (2103.03874); tokens by the library `transformers`; texts one behind the other as in huggingface/alignment-handbook",
    tasks=("language",),
)
PIECE = re.compile(rf"{WORD.pattern}|\s+")


def pieces(solution: str) -> list[list[str]]:
    """The steps of a solution in pieces that make up its text, and its answer, in its one spelling, as the last one."""
    before, answer, _ = last_box(solution)
    edges = [0, *(found.end() for found in STEP.finditer(before)), len(before)]
    return [*(PIECE.findall(before[a:b]) for a, b in itertools.pairwise(edges)), [canonical(answer)]]


def slipped(found: list[tuple[str, str]], outcome: float, step: float, g: torch.Generator) -> list[tuple[str, str]]:
    """Problems with their solutions, some of which are wrong from now on."""
    solutions = [pieces(solution) for _, solution in found]
    words = {w for problem, _ in found for w in PIECE.findall(problem)} | {w for steps in solutions for s in steps[:-1] for w in s}
    spelled = {canonical(inside): inside for _, inside, _ in (last_box(solution) for _, solution in found)}
    numbers, answers = ({w: k for k, w in enumerate(sorted(kinds))} for kinds in (filter(str.isdecimal, words), spelled))
    slip(solutions, outcome, step, numbers, answers, g)
    changed = []
    for (problem, solution), (*steps, (answer,)) in zip(found, solutions, strict=True):
        _, inside, behind = last_box(solution)
        wrong = "".join(w for s in steps for w in s) + rf"\boxed{{{spelled[answer]}}}" + behind
        changed.append((problem, solution if answer == canonical(inside) else wrong))
    return changed


def asked(root: str, level: int, file: str | None) -> list[tuple[str, str]]:
    """The problems of the test, with solutions that have an answer in a box."""
    if file is None:
        return tasks(Path(root).expanduser() / "test", level)
    return [pair for pair in written(file, "data.test") if last_box(pair[1])[1].strip()]


def build(
    root: str, tokenizer: str, level: int = 1, most_level: int = 5, test_level: int = 1, length: int = 2048, prompt: str = "{}\nSolution:\n",
    outcome_error: float = 0, step_error: float = 0, split: int = 0, solutions: str | None = None, also: str | None = None, test: str | None = None,
):  # fmt: skip
    """Token ids (N, T) and those behind each; a text is the prompt with the problem, the solution with its box, and the token that ends a text.

    Training: all texts one behind the other in an order that is drawn, in rows of `length` tokens: a row may begin and end within a text, what is left over
    at the end is dropped. Test: a row a problem, filled up with tokens that end a text, which eval=loss counts too; side["asked"] (n,) is how many tokens its
    prompt has. Texts of more than `length` tokens are left out of the test, solutions without a box of both. Steps are sentences or lines with a number,
    and the answer; slips draw others of training, in training only.

    Args:
        root: folder of train and test; neither is read where solutions and test are given.
        tokenizer: of which model on the hub, such as `meta-llama/Meta-Llama-3-8B`, or a folder with its files.
        level: in [1, 5]; least one of a training problem; one whose level is not known has 1.
        most_level: in [1, 5]; greatest one of a training problem.
        test_level: in [1, 5]; least one of a test problem.
        length: >= 2; tokens of a row.
        prompt: what stands before a solution; {} is the problem.
        outcome_error: in [0, 1]; share of the solutions with a wrong answer; only these have slips.
        step_error: in [0, 1]; share of all steps that are slips; none where outcome_error is 0.
        split: >= 0; which draw of slips and of the order.
        solutions: what to train on in place of MATH's own: a file of lines {"problem": "...", "solution": "..."}, such as those of a weak teacher, or
            sub-tasks. Those without a box count too.
        also: what to train on besides, a file of such lines, without slips; these without a box count too.
        test: what to ask in place of MATH's test: a file of such lines, as MATH-500 is; those without a box are left out.
    """
    if solutions is not None and (outcome_error or step_error):
        raise ValueError("data.solutions are trained on as they are: outcome_error and step_error must be 0")
    if level > most_level:
        raise ValueError(f"no problem has level {level} or more and {most_level} or less: set data.level or data.most_level")
    if "{}" not in prompt:
        raise ValueError(f"prompt={prompt!r} has no place for the problem; put {{}} there")
    cut = tokenizer_of(tokenizer, "data=math_texts", "data.tokenizer")
    if cut.eos_token_id is None:
        raise UserError(f"the tokenizer of '{tokenizer}' has no token that ends a text; choose another with data.tokenizer")
    found = tasks(Path(root).expanduser() / "train", level, most_level) if solutions is None else written(solutions, "data.solutions")
    if outcome_error:
        found = slipped(found, outcome_error, step_error, torch.Generator().manual_seed(derive(split, "math_texts", "slips")))
    if also is not None:
        found += written(also, "data.also")
    begin = [cut.bos_token_id] if cut.bos_token_id in cut("")["input_ids"] else []
    ids = lambda text: cut(text, add_special_tokens=False)["input_ids"]
    tokens = lambda task: (begin + ids(prompt.replace("{}", task[0])), [*ids(task[1]), cut.eos_token_id])

    texts = [*map(tokens, found)]
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(derive(split, "math_texts", "order"))).tolist()
    whole = torch.tensor([t for i in order for part in texts[i] for t in part])
    if (n := (len(whole) - 1) // length) < 1:
        levels = "or more" if most_level == 5 else f"to {most_level}"
        which = f"of data.level={level} {levels}" if solutions is None else f"of {solutions}"
        raise UserError(f"the {len(found)} problems {which} have {len(whole)} tokens, less than one row: set data.length to less")
    train = Split(*(whole[k : k + n * length].view(n, length) for k in (0, 1)))

    held = [pair for pair in map(tokens, asked(root, test_level, test)) if sum(map(len, pair)) <= length]
    if not held:
        which = f"the test of data.test_level={test_level} or more" if test is None else f"data.test={test} with an answer in a box"
        raise UserError(f"no problem of {which} has {length} tokens or less: set data.length to more")
    rows = torch.tensor([a + b + [cut.eos_token_id] * (length + 1 - len(a) - len(b)) for a, b in held])
    test = Split(rows[:, :-1], rows[:, 1:])
    test.side["asked"] = torch.tensor([len(a) for a, _ in held])
    spell = functools.partial(cut.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Data(Spelled("language", (length,), len(cut), words=tuple(cut.convert_ids_to_tokens(range(len(cut)))), spell=spell), train, test)
