"""boxed: models that write a right box, a wrong one, one that is not closed, and none; only those are asked that shall be; a run of data, model and measure."""

from types import SimpleNamespace

import pytest
import tiny_lm
import torch
from math_files import write

from runner import UserError
from runner.components.eval.boxed import build
from runner.core.data import Split
from runner.execution.assemble import assemble

END = 0
ids = lambda text: [ord(sign) for sign in text]
TASKS = [(f"{k}+{k + 1}=", f"It is \\boxed{{1}}, no, \\boxed{{ {2 * k + 1}}}.") for k in range(40)]


class Writer:
    """Writes `solution(k)` for k + (k + 1), and remembers what it was asked."""

    def __init__(self, solution):
        self.solution, self.asked, self.tokens = solution, [], set()

    def write(self, prompts, tokens):
        said = ["".join(map(chr, p.tolist())) for p in prompts]
        self.asked, self.tokens = [*self.asked, *said], self.tokens | {tokens}
        return [torch.tensor(ids(self.solution(int(text.partition("+")[0]))), dtype=torch.long) for text in said]


def measured(model, problems=None, tokens=50, tasks=TASKS, **state):
    rows = [ids(a + b) for a, b in tasks]
    whole = torch.tensor([row + [END] * (60 - len(row)) for row in rows])
    split = Split(whole[:, :-1], whole[:, 1:])
    split.side["asked"] = torch.tensor([len(a) for a, _ in tasks])
    spell = lambda row: "".join(chr(k) for k in row if k)
    state = SimpleNamespace(model=model, info=SimpleNamespace(spell=spell), eval_batch=7, device=torch.device("cpu"), **state)
    return build(problems, tokens).measure(state, split)["boxed"]


@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        (lambda k: f"So \\boxed{{{2 * k + 1}}} it is", 100),
        (lambda k: f"So $\\boxed{{{2 * k}}}, \\boxed {2 * k + 1} $", 100),
        (lambda k: f"\\boxed{{x = {2 * k + 1}\\text{{ m}}}}", 100),
        (lambda k: f"\\boxed{{{2 * k + 1}}} or \\boxed{{{2 * k}}}", 0),
        (lambda k: f"\\boxed{{{2 * k + 1}", 0),
        (lambda k: f"\\boxed{{{2 * k + 1}}} and \\boxed{{{2 * k + 1}", 0),
        (lambda k: f"{2 * k + 1}", 0),
        (lambda k: "", 0),
        (lambda k: "\\boxed{21}", 2.5),
        (lambda k: f"\\boxed{{{2 * k + 1 + k % 2}}}", 50),
    ],
)
def test_the_last_box_counts(solution, expected):
    writer = Writer(solution)
    assert measured(writer) == expected
    assert sorted(writer.asked) == sorted(a for a, _ in TASKS)
    assert writer.tokens == {50}


def test_no_box_is_never_right():
    """Also where nothing counts in the right answer."""
    units = [(f"{k}+{k}=", r"\boxed{\text{ m}}") for k in range(4)]
    assert [measured(Writer(lambda k, said=said: said), tasks=units) for said in ("", r"\boxed{}", r"\boxed{\text{ m}}", r"\boxed{1}")] == [0, 0, 100, 0]


def test_so_many_are_asked_and_always_the_same():
    one, other = Writer(lambda k: ""), Writer(lambda k: "\\boxed{3}")
    measured(one, 15)
    measured(other, 15)
    assert one.asked == other.asked
    assert len(set(one.asked)) == 15
    assert set(one.asked) != {a for a, _ in TASKS[:15]}
    assert [len(a) for a in one.asked] == sorted(len(a) for a in one.asked)


def test_a_model_that_does_not_write_is_refused():
    with pytest.raises(UserError, match=r"^eval\.boxed needs a model that writes, as model=causal_lm does; leave it out of eval$"):
        measured(object())


def test_nothing_is_measured_on_other_data():
    assert build().measure(SimpleNamespace(), Split(torch.zeros(2, 3), torch.zeros(2, 3))) == {}


@pytest.mark.parametrize("family", ["GPT2", "Llama"])
def test_it_learns_to_write_a_solution(tmp_path, family):
    """Data, model and measure together: a solution that is all of training ends in its box, and the model ends it."""
    folder, same = str(tiny_lm.write(tmp_path / "model", family)), ("Say 7.", 5, "It is $\\boxed{7}$.")
    root = str(write(tmp_path, {f"train/algebra/{k}": same for k in range(20)} | {"test/algebra/1": same}))
    tree = {
        "data": {"name": "math_texts", "root": root, "tokenizer": folder, "length": 60, "prompt": "{}: "},
        "model": {"name": "causal_lm", "path": folder}, "loss": "ce", "learner": "supervised", "optimizer": {"name": "adamw", "lr": 0.02},
        "schedule": "constant", "noise": "none", "sparsity": "none", "softmax": "softmax", "device": "cpu",
        "trainer": {"name": "standard", "duration": "150it", "batch_size": 4, "eval_every": "150it", "precision": "bf16"},
        "eval": {"boxed": {"name": "boxed", "tokens": 40}},
    }  # fmt: skip
    loop = assemble(tree, [].append)
    (evaluator,), test = loop.measures.evaluators, loop.state.data.test
    loop.state.model.eval()
    assert evaluator.object.measure(loop.state, test)["boxed"] == 0
    assert loop.run()["test/boxed_last"] == 100
    (written,) = loop.state.model.eval().write([test.x[0, : test.side["asked"][0]]], 40)
    assert loop.state.info.spell(written.tolist()) == same[2]
