"""One run on two processes takes the steps of one process that cuts its batches in two, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import math_files
import pytest
import tiny_lm
import torch

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
RUN = ["-m", "runner", "+recipe=noisy_labels", "scale=smoke", "with=[elr,mixup,ema,sam]", "optimizer.momentum=0.9", "device=cpu"]


def start(folder, command):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests' / 'support'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def rows(folder):
    (file,) = folder.glob("*/metrics.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_two_processes_are_one_with_two_pieces(tmp_path):
    done = start(tmp_path, [*TORCHRUN, *RUN, f"store={tmp_path / 'two'}"])
    assert done.stdout.count("test/acc") == 1  # one process speaks
    start(tmp_path, [sys.executable, *RUN, "trainer.accumulate=2", f"store={tmp_path / 'pieces'}"])
    start(tmp_path, [sys.executable, *RUN, f"store={tmp_path / 'one'}"])
    assert rows(tmp_path / "two") == rows(tmp_path / "pieces")
    one = rows(tmp_path / "one")
    assert [r["train/loss"] for r in rows(tmp_path / "two")] == pytest.approx([r["train/loss"] for r in one], rel=1e-4)


SCRIPT = """
from pathlib import Path
import small
import torch
from runner.core.card import card
from runner.core.errors import UserError
from runner.core.events import Component
from runner.core.parallel import World


class Counts:
    seen = 0

    def __init__(self, own):
        self.own = own

    def losses(self, state, losses, batch):
        self.seen += int(batch.i.sum()) if self.own else 0
        state.per_sample["seen"][batch.i] += 1
        return losses

    def setup(self, state):
        state.per_sample["seen"] = torch.zeros(len(state.data.train), dtype=torch.long)


for own in (False, True):
    loop = small.loop(Component("with/counts", Counts(own), card(rung={"losses": "select"})))
    world = loop.state.world = World.join(torch.device("cpu"))
    try:
        loop.run()
        said = "agreed"
    except UserError as error:
        said = str(error)
    Path(f"{world.rank}{own}").write_text(f"{said} {loop.state.per_sample['seen'].unique().tolist()}")
world.close()
"""


def test_rows_are_shared_and_statistics_of_a_piece_are_refused(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    start(tmp_path, [*TORCHRUN, "script.py"])
    said = {name: (tmp_path / name).read_text() for name in ("0False", "1False", "0True", "1True")}
    assert said["0False"] == said["1False"] == "agreed [2]"  # every row was seen once an epoch, by whichever process
    assert "with/counts keeps statistics of its own piece" in said["0True"]
    assert "with/counts" in said["1True"]


SHARDED = """
import copy
import json
import os
from pathlib import Path
import small
import torch
from runner.core import snapshot
from runner.core.errors import UserError
from runner.core.parallel import World
from runner.execution.trace import fingerprint
from torch import nn

world = World.join(torch.device("cpu"))
network = lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Sequential(nn.Linear(8, 8), nn.Tanh()), nn.Linear(8, 4, bias=False), nn.Linear(4, 4))
local = lambda t: t.to_local() if hasattr(t, "to_local") else t


def made(shard, *parts, **settings):
    world.sharded = False
    torch.manual_seed(1)
    return small.loop(*parts, world=world, shard=shard, model=network(), **settings)


def trained(loop, at=None):
    kept = []

    def look(loop):
        if loop.state.step == at:
            kept.append(copy.deepcopy(snapshot.save(loop)))

    loop.run(look)
    held = sum(local(t).numel() for t in [*loop.state.model.parameters(), *(s["momentum_buffer"] for s in loop.state.optimizer.state.values())])
    return fingerprint(loop), held, *kept


def resumed(loop, saved):
    snapshot.load(loop, saved)
    return trained(loop)


def said(act):
    try:
        return act()
    except UserError as error:
        return str(error)


class Masks:
    pass


class Copies:
    def setup(self, state):
        self.peer = copy.deepcopy(state.model)


whole, all_of_it, saved_whole = trained(made(False), 6)
sharded, its_part, saved_sharded = trained(made(True), 6)
clipped = {False: [], True: []}
for shard, rows in clipped.items():
    made(shard, clip=0.1, report=rows.append).run()
found = {
    "part": its_part / all_of_it,
    "results": [whole, sharded, resumed(made(True), saved_whole)[0], resumed(made(False), saved_sharded)[0]],
    "clipped": max(abs(a["train/loss"] - b["train/loss"]) for a, b in zip(*clipped.values())),
    "mask": said(lambda: made(True, small.part(Masks(), "sparsity/masks", owns=("mask",)))),
    "copy": said(lambda: made(True, small.part(Copies(), "with/copies"))),
    "small": said(made(True, n=41).run),
}
Path(f"{world.rank}.json").write_text(json.dumps(found))
world.sharded = False
world.close()
os._exit(0)  # as the command does: gloo's threads may abort a process that takes itself apart
"""


def test_sharded_weights_change_nothing(tmp_path):
    """FSDP2: each process holds half; the trained weights are those of whole ones, also when one goes on from the other's checkpoint."""
    (tmp_path / "script.py").write_text(SHARDED)
    start(tmp_path, [*TORCHRUN, "script.py"])
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found["part"] == 0.5
        assert len(set(found["results"])) == 1
        assert found["clipped"] < 1e-6
        assert found["mask"] == "sparsity/masks needs whole weights; it cannot run with trainer.shard=true"
        assert "copies the model" in found["copy"]
        assert "a batch of 1 samples is too small" in found["small"]


def test_a_sharded_run_writes_the_same_record(tmp_path):
    run = [*TORCHRUN, "-m", "runner", "+recipe=noisy_labels", "scale=smoke", "with=[elr,mixup,ema]", "trainer.checkpoint_every=0", "device=cpu"]
    start(tmp_path, [*run, f"store={tmp_path / 'whole'}"])
    start(tmp_path, [*run, "trainer.shard=true", f"store={tmp_path / 'sharded'}"])
    assert rows(tmp_path / "sharded") == rows(tmp_path / "whole")  # with the hashes of all weights


def test_a_sharded_language_model_writes_the_same(tmp_path):
    """Its weights are gathered for each token that is written; embedding and last layer are one."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    folder = tiny_lm.write(tmp_path / "model", "Llama", tie_word_embeddings=True)
    task = lambda k: (f"Say {k}.", 5, f"It is $\\boxed{{{k}}}$.")
    math_files.write(tmp_path / "math", {f"train/algebra/{k}": task(7) for k in range(40)} | {f"test/algebra/{k}": task(k) for k in range(6, 9)})
    chosen = ["data=math_texts", f"data.root={tmp_path / 'math'}", f"data.tokenizer={folder}", "data.length=60", "model=causal_lm", f"model.path={folder}"]
    chosen += ["optimizer=adamw", "optimizer.lr=0.02", "eval=[boxed]", "eval.boxed.tokens=20", "device=cpu"]
    chosen += ["trainer.duration=50it", "trainer.eval_every=50it", "trainer.batch_size=4"]
    start(tmp_path, [*TORCHRUN, "-m", "runner", *chosen, "trainer.shard=true", f"store={tmp_path / 'sharded'}"])
    start(tmp_path, [sys.executable, "-m", "runner", *chosen, "trainer.accumulate=2", f"store={tmp_path / 'whole'}"])
    sharded, whole = (rows(tmp_path / name)[-1] for name in ("sharded", "whole"))
    assert sharded["test/boxed"] == whole["test/boxed"] == pytest.approx(100 / 3)  # it says 7 always
    assert sharded["train/loss"] == pytest.approx(whole["train/loss"], rel=1e-3)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_sharded_language_model_is_exported_whole(tmp_path, rank):
    """As its checkpoint has it; with corrections of low rank the library's logits are those of the run that goes on with whole weights."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    folder = tiny_lm.write(tmp_path / "model", "Llama", tie_word_embeddings=True)
    math_files.many(tmp_path / "math")
    chosen = ["data=math_texts", f"data.root={tmp_path / 'math'}", f"data.tokenizer={folder}", "data.length=100", "model=causal_lm", f"model.path={folder}"]
    chosen += [f"model.rank={rank}", "optimizer=adamw", "optimizer.lr=0.02", "eval=[boxed]", "eval.boxed.tokens=8", "eval.boxed.temperature=0.6", "device=cpu"]
    chosen += ["with=[export]", "with.export.path=out", "trainer.duration=3it", "trainer.eval_every=3it", "trainer.batch_size=4"]
    start(tmp_path, [*TORCHRUN, "-m", "runner", *chosen, "trainer.shard=true", f"store={tmp_path / 'sharded'}"])
    written = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    (file,) = (tmp_path / "sharded").glob("*/checkpoints/*.pt")
    trained = {n.removeprefix("network."): w for n, w in torch.load(file, weights_only=True)["state"]["model"].items()}
    if rank:
        begun = transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict()
        corrected = [n.removesuffix(".lora.up.weight") for n in trained if n.endswith(".lora.up.weight")]
        assert len(corrected) == 14
        changes = {f"{n}.weight": 16.0 / rank * trained[f"{n}.lora.up.weight"] @ trained[f"{n}.lora.down.weight"] for n in corrected}
        assert all(change.abs().max() > 1e-3 for change in changes.values())
        trained = {n: w + changes.get(n, 0) for n, w in begun.items()}
    assert trained.keys() == written.keys()
    assert all(torch.allclose(w, written[n], atol=1e-6 if rank else 0, rtol=0) for n, w in trained.items())


WRITES = """
import os
import sys
import torch
from pathlib import Path
from runner.core.parallel import World
from runner.core.sharding import is_part
from runner.execution.assemble import assemble

folder, root = sys.argv[1:]
loop = assemble({
    "data": {"name": "math_texts", "root": root, "tokenizer": folder, "length": 100}, "model": {"name": "causal_lm", "path": folder}, "loss": "ce",
    "learner": "supervised", "optimizer": "sgd", "schedule": "constant", "noise": "none", "sparsity": "none", "softmax": "softmax", "device": "cpu",
    "eval": {"loss": {"name": "loss"}}, "trainer": {"name": "standard", "duration": "1it", "batch_size": 4, "shard": True},
})
loop.run()
model, world, prompts = loop.state.model.eval(), loop.state.world, [torch.tensor([1, 2, 3]), torch.tensor([4, 5])]
assert any(map(is_part, model.parameters()))
with torch.no_grad():
    texts = [[row.tolist() for row in model.write(prompts, (5, 20)[world.rank], 0.7, seed=world.rank)], [r.tolist() for r in model.write(prompts, 10)]]
Path(f"{world.rank}.json").write_text(repr(texts))
world.close()
os._exit(0)
"""


def test_processes_that_share_weights_may_write_texts_of_different_length(tmp_path):
    """Each writes on its own, and none waits for ever; afterwards they write the same again."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    folder, root = tiny_lm.write(tmp_path / "model", "Llama"), math_files.many(tmp_path / "math")
    (tmp_path / "script.py").write_text(WRITES)
    start(tmp_path, [*TORCHRUN, "script.py", str(folder), str(root)])
    one, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert [[len(row) for row in rows] for rows in (*one, *other)] == [[5, 5], [10, 10], [20, 20], [10, 10]]
    assert one[1] == other[1]
