"""boxed: models that write a right box, a wrong one, one that is not closed, and none; only those are asked that shall be; a run of data, model and measure."""

from types import SimpleNamespace

import pytest
import tiny_lm
import torch
from math_files import write

from runner import UserError
from runner.components.eval.boxed import build
from runner.core.data import Split
from runner.core.rng import Streams
from runner.execution.assemble import assemble

END = 0
ids = lambda text: [ord(sign) for sign in text]
TASKS = [(f"{k}+{k + 1}=", f"It is \\boxed{{1}}, no, \\boxed{{ {2 * k + 1}}}.") for k in range(40)]


class Writer:
    """Writes `solution(k)` for k + (k + 1), and remembers what it was asked."""

    def __init__(self, solution):
        self.solution, self.asked, self.tokens, self.drawn = solution, [], set(), []

    def write(self, prompts, tokens, **drawn):
        self.drawn.append(drawn)
        said = ["".join(map(chr, p.tolist())) for p in prompts]
        self.asked, self.tokens = [*self.asked, *said], self.tokens | {tokens}
        return [torch.tensor(ids(self.solution(int(text.partition("+")[0]))), dtype=torch.long) for text in said]


def measured(model, problems=None, tokens=50, tasks=TASKS, drawn=None, **state):
    rows = [ids(a + b) for a, b in tasks]
    whole = torch.tensor([row + [END] * (60 - len(row)) for row in rows])
    split = Split(whole[:, :-1], whole[:, 1:])
    split.side["asked"] = torch.tensor([len(a) for a, _ in tasks])
    spell = lambda row: "".join(chr(k) for k in row if k)
    state = SimpleNamespace(model=model, info=SimpleNamespace(spell=spell), eval_batch=7, device=torch.device("cpu"), **state)
    return build(problems, tokens, **drawn or {}).measure(state, split)["boxed"]


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


def test_draws_have_seeds_of_their_own():
    """Another one for each batch, step and seed of the run, and always the same."""
    seeds = []
    for run, step in ((0, 10), (0, 10), (0, 20), (1, 10)):
        writer = Writer(lambda k: "")
        measured(writer, drawn={"temperature": 0.6, "top_k": 50, "top_p": 0.9}, rng=Streams(run), step=step)
        assert [{**d, "seed": 0} for d in writer.drawn] == [{"temperature": 0.6, "top_k": 50, "top_p": 0.9, "seed": 0}] * 6  # 40 problems, 7 at once
        seeds.append(tuple(d["seed"] for d in writer.drawn))
    assert seeds[0] == seeds[1]
    assert len({s for some in seeds for s in some}) == 18
    greedy = Writer(lambda k: "")
    measured(greedy)
    assert greedy.drawn == [{}] * 6
    with pytest.raises(ValueError, match=r"^eval\.boxed\.top_k and top_p are for solutions that are drawn: set eval\.boxed\.temperature$"):
        build(top_p=0.9)


def test_a_model_that_does_not_write_is_refused():
    with pytest.raises(UserError, match=r"^eval\.boxed needs a model that writes, as model=causal_lm does; leave it out of eval$"):
        measured(object())


def test_nothing_is_measured_on_other_data():
    assert build().measure(SimpleNamespace(), Split(torch.zeros(2, 3), torch.zeros(2, 3))) == {}


def run_of(folder, root, **boxed):
    return {
        "data": {"name": "math_texts", "root": root, "tokenizer": folder, "length": 60, "prompt": "{}: "},
        "model": {"name": "causal_lm", "path": folder}, "loss": "ce", "learner": "supervised", "optimizer": {"name": "adamw", "lr": 0.02},
        "schedule": "constant", "noise": "none", "sparsity": "none", "softmax": "softmax", "device": "cpu",
        "trainer": {"name": "standard", "duration": "150it", "batch_size": 4, "eval_every": "150it", "precision": "bf16"},
        "eval": {"boxed": {"name": "boxed", "tokens": 40, **boxed}},
    }  # fmt: skip


@pytest.mark.parametrize("family", ["GPT2", "Llama"])
def test_it_learns_to_write_a_solution(tmp_path, family):
    """Data, model and measure together: a solution that is all of training ends in its box, and the model ends it."""
    folder, same = str(tiny_lm.write(tmp_path / "model", family)), ("Say 7.", 5, "It is $\\boxed{7}$.")
    root = str(write(tmp_path, {f"train/algebra/{k}": same for k in range(20)} | {"test/algebra/1": same}))
    tree = run_of(folder, root)
    loop = assemble(tree, [].append)
    (evaluator,), test = loop.measures.evaluators, loop.state.data.test
    loop.state.model.eval()
    assert evaluator.object.measure(loop.state, test)["boxed"] == 0
    assert loop.run()["test/boxed_last"] == 100
    (written,) = loop.state.model.eval().write([test.x[0, : test.side["asked"][0]]], 40)
    assert loop.state.info.spell(written.tolist()) == same[2]


def test_drawing_leaves_training_as_it_is(tmp_path):
    """With dropout, whose random numbers come from the stream that the library draws from."""
    folder = str(tiny_lm.write(tmp_path / "model", "GPT2", resid_pdrop=0.3))
    root = str(write(tmp_path, {f"{split}/algebra/{k}": (f"Say {k}.", 5, f"It is $\\boxed{{{k}}}$.") for split in ("train", "test") for k in range(20)}))
    ends = {}
    for name, boxed in {"greedy": {}, "drawn": {"temperature": 2.0}, "again": {"temperature": 2.0}, "none": None}.items():
        tree = run_of(folder, root, **boxed or {})
        tree["trainer"] |= {"duration": "6it", "eval_every": "2it", "precision": "fp32"}
        said, loop = [], assemble(tree if boxed is not None else tree | {"eval": {}})
        write_on = loop.state.model.write
        loop.state.model.write = lambda *a, said=said, write_on=write_on, **how: said.append(write_on(*a, **how)) or said[-1]
        loop.run()
        ends[name] = (loop.state.weights(), [row.tolist() for rows in said for row in rows], torch.get_rng_state())
    for name in ("greedy", "drawn", "again"):
        assert all(torch.equal(w, ends["none"][0][key]) for key, w in ends[name][0].items())
        assert torch.equal(ends[name][2], ends["none"][2])
    assert ends["drawn"][1] == ends["again"][1] != ends["greedy"][1]
