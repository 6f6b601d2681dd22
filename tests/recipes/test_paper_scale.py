"""Recipes at scale=paper whose data or networks are files: two steps on small files of the same kinds."""

import json

import coco_files
import hub_weights
import math_files
import pytest
import tacred_files
import tiny_lm
import tiny_vit
import torch
from torchvision import models

from runner.components.data import cifar10, cifar_bags
from runner.config import compose
from runner.config.bind import bind
from runner.core.errors import UserError
from runner.execution.assemble import assemble
from runner.report.cells import of_table, tables

transformers = pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNNER_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_vit.write(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def composed():
    with compose.composer() as call:
        yield lambda *overrides: bind(call(compose.rewrite([*overrides, "scale=paper", "device=cpu", "threads=1"])))


def test_ni_erm(composed, encoder):
    changed = ("data=digits_images", "noise=symmetric", f"model.path={encoder}", "model.size=32", "trainer.duration=2it")
    loop = assemble(composed("+recipe=noise/ni_erm", *changed))
    start = loop.state.weights()
    assert 0 < loop.run()["test/acc_last"] < 100
    moved = {name for name, w in loop.state.weights().items() if not w.equal(start[name])}
    assert moved == {"head.weight", "head.bias"}
    assert loop.state.per_sample["linear_probe"].isfinite().all(1).sum() == 2 * 128


def test_ins_mil(composed, home, monkeypatch):
    g = torch.Generator().manual_seed(0)
    images = (torch.randint(256, (200, 3, 32, 32), generator=g, dtype=torch.uint8), torch.arange(200) % 10)
    monkeypatch.setattr(cifar_bags, "cifar", lambda name, root, download: [images, images])
    stored = hub_weights.write(home, "resnet18")
    few = ("data.bags=10", "data.test_bags=4", "data.size=10", "learner.queue=64")
    loop = assemble(composed("+recipe=noise/ins_mil", *few, "trainer.duration=2it", "learner.warmup=1it"))
    start = loop.state.weights()
    assert {name for name in start if not start[name].equal(stored[name])} == {"fc.weight", "fc.bias"}
    assert "test/bag_auc_last" in loop.run()


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """Two images of each of 1,000 classes."""
    from PIL import Image

    root = tmp_path_factory.mktemp("imagenet")
    for c in range(1000):
        (root / "train" / f"n{c:08}").mkdir(parents=True)
        for k in range(2):
            Image.new("RGB", (40, 36), (c % 256, c // 4, 255 * k)).save(root / "train" / f"n{c:08}" / f"{k}.jpg")
    return root


def test_w2s_generalization(composed, encoder, home, imagenet):
    stored = hub_weights.write(home, "squeezenet1_1")  # AlexNet's are fifty times as large
    paper = ("+recipe=noise/w2s_generalization", f"model.path={encoder}", "model.size=32", f"data.root={imagenet}", "data.size=36", "data.workers=0")
    changed = ("with.weak_supervision.network=squeezenet1_1", "data.share=0.5", "trainer.eval_batch=500")
    loop = assemble(composed(*paper, *changed, "trainer.duration=2it"))
    train, start = loop.state.data.train, loop.state.weights()
    network = models.squeezenet1_1()
    network.load_state_dict(stored)
    with torch.no_grad():
        weak = network.eval()(train.fetch(torch.tensor([3, 700])).x).softmax(1)
    assert torch.allclose(loop.state.per_sample["weak_supervision"][[3, 700]], weak, atol=1e-6)
    assert "test/acc_last" in loop.run()
    assert {name for name, w in loop.state.weights().items() if not w.equal(start[name])} == {"head.weight", "head.bias"}
    assert loop.state.per_sample["linear_probe"].isfinite().all(1).sum() == 2 * 100
    loop = assemble(composed(*paper, *changed, "with.weak_supervision.evaluate=supervisor", "trainer.duration=0it"))
    test = loop.state.data.test
    with torch.no_grad():
        right = network(test.fetch(torch.arange(1000)).x).argmax(1) == test.y
    assert loop.run()["test/acc_last"] == pytest.approx(100 * right.float().mean().item(), abs=1e-3)


def few_sentences(home):
    """Files of TACRED and of word vectors, and the overrides that use them for four steps. Also the vector of Ohio."""
    tacred_files.write(home)
    (home / "Re-TACRED").mkdir()
    (home / "Re-TACRED" / "train_id2label.json").write_text(json.dumps({"b": "org:founded_by"}))
    vector = [k / 300 for k in range(300)]
    (home / "vectors.txt").write_text(" ".join(map(str, ["Ohio", *vector])))
    few = (f"data.root={home}", "data.vocabulary=30", f"model.vectors={home}/vectors.txt", "with.knn_cleaning.warmup=2it", "trainer.duration=4it")
    return few, vector


def test_tacred_noise(composed, home):
    few, vector = few_sentences(home)
    loop = assemble(composed("+recipe=noise/tacred_noise", *few))
    start, info = loop.state.weights(), loop.state.info
    assert torch.equal(start["words.weight"][info.words.index("Ohio")], torch.tensor(vector))
    assert loop.state.data.train.clean.tolist() == [0, 0, 1, 2]
    assert {"val/f1_last", "test/f1_last", "train/memorised_last"} <= set(loop.run())
    assert all(w.isfinite().all() for w in loop.state.weights().values())
    assert not [name for name, w in loop.state.weights().items() if w.equal(start[name])]


def test_marvelovd(composed, home):
    """The recipe's own classes, of which the last 17 have no labels but proposals of a file, which also holds embeddings of their names."""
    stored = hub_weights.write(home, "resnet18")
    (paper,) = composed("+recipe=noise/marvelovd")["data"]
    names = paper.args["classes"]
    coco_files.write(home, {k + 1: name for k, name in enumerate(names)}, used=(44, 49, 61))  # person, umbrella, scissors
    file = coco_files.propose(home, [49, 61], each=12)
    content = json.loads(file.read_text())
    content["categories"] = [{**c, "text_emb": torch.randn(6, generator=torch.Generator().manual_seed(c["id"])).tolist()} for c in content["categories"]]
    file.write_text(json.dumps(content))
    small = ("model.arch=resnet18", "model.hidden=16", "model.proposals=30", f"model.embeddings={file}", "learner.regions=64", "learner.anchors=64")
    few = (f"data.root={home}", "data.size=64", "data.workers=0", f"noise.path={file}", "trainer.batch_size=2", *small)
    loop = assemble(composed("+recipe=noise/marvelovd", *few, "trainer.duration=2it", "with.marvelovd.burn_in=1it", "with.marvelovd.threshold=0.7"))
    train, start = loop.state.data.train, loop.state.weights()
    assert loop.state.info.outputs == 66
    assert set(train.y.unique().tolist()) == {0, 44}
    assert set(train.side["proposals"][..., 0].unique().tolist()) == {-1, 48, 60}
    seen = {}

    def look(loop):
        if (batch := loop.state.batch) is not None:
            seen[loop.state.step] = (batch.i.clone(), batch.extra["targets"].clone(), batch.t, batch.extra)

    summary = loop.run(look)
    assert {"test/ap50_novel_last", "test/ap50_base_last", "train/pseudo_used_last"} <= set(summary)
    rows, targets, labels, extra = seen[1]  # of the burn-in: CLIP's surest boxes, and regions that are given to them
    used = torch.where(train.side["proposals"][rows][..., 5] >= 0.7, train.side["proposals"][rows][..., 0].long() + 1, 0)
    assert used.any()
    assert torch.equal(targets, torch.cat([train.y[rows], used], 1))
    assert extra["strong"].shape == (2, 3, 64, 64)
    assert set(labels.unique().tolist()) <= {0, *targets.unique().tolist()}
    assert (extra["given"] >= train.y.shape[1]).any()
    moved = {name for name, w in loop.state.weights().items() if not w.equal(start[name])}
    body = {name.removeprefix("backbone.body."): w for name, w in start.items() if name.startswith("backbone.body.")}
    assert all(stored[name].equal(w) for name, w in body.items())
    assert {"head.0.weight", "classifier.layer.weight", "mover.weight", "rpn.head.cls_logits.weight", "backbone.body.layer2.0.conv1.weight"} <= moved
    assert "classifier.rows" not in moved
    assert not [name for name in moved if name.startswith(("backbone.body.conv1", "backbone.body.layer1")) or "running" in name]


def test_tacred_noise_by_c_gcn(composed, home):
    few, vector = few_sentences(home)
    (cell,) = (c for c in of_table("noise/tacred_noise", tables("noise/tacred_noise", "paper")["t1"], "paper", [0]) if (c.row, c.col) == ("intrinsic", "c_gcn"))
    config = composed(*(o for o in cell.overrides if o != "scale=paper"), *few)
    loop = assemble(config)
    start, info = loop.state.weights(), loop.state.info
    assert torch.equal(start["words.weight"][info.words.index("Ohio")], torch.tensor(vector))
    assert {"val/f1_last", "test/f1_last", "train/memorised_last"} <= set(loop.run())
    assert all(w.isfinite().all() for w in loop.state.weights().values())
    assert not [name for name, w in loop.state.weights().items() if w.equal(start[name])]


REASONING, SHORT = "+recipe=noise/supervision_quality_reasoning", "data.prompt='{} Solution: '"  # the recipe's is longer than the small models' texts may be


def reasoning(home):
    """Files of MATH, of other tests and of a teacher, and the overrides that use them for two steps."""
    root = math_files.many(home / "math")
    math_files.write(root, {f"train/geometry/{k}": (f"Easy {k}", 3, f"It is \\boxed{{{k}}}") for k in range(30)})
    tell = lambda what, n: "".join(json.dumps({"problem": f"{what} {k}", "solution": f"It is \\boxed{{{k}}}"}) + "\n" for k in range(n))
    for name, what in (("asked", "Asked"), ("orca", "Orca"), ("hard", "Hard"), ("subtasks", "Part"), ("rephrased", "Again")):
        (home / f"{name}.jsonl").write_text(tell(what, 4 if name == "asked" else 30))
    few = (f"data.root={root}", f"data.test={home}/asked.jsonl", "data.length=120", "trainer.batch_size=2", "trainer.accumulate=2", "trainer.duration=2it")
    return REASONING, SHORT, *few, "schedule.warmup=0it", "eval.boxed.tokens=30"


@pytest.mark.parametrize("family", ["GPT2", "Llama"])
def test_supervision_quality_reasoning(composed, home, family):
    """The first stage, and the second, which begins where that ended."""
    few, base = reasoning(home), tiny_lm.write(home / "model", family)
    easy = ("data.level=1", "data.most_level=3", f"data.also={home}/orca.jsonl", "data.outcome_error=0", "data.step_error=0")
    first = assemble(composed(*few, f"model.path={base}", *easy, "with=[export]", f"with.export.path={home}/base"))
    said, start = first.state.info.spell(first.state.data.train.x.flatten().tolist()), first.state.weights()
    assert [(word in said) for word in ("Easy", "Orca", "Task")] == [True, True, False]
    assert 0 <= first.run()["test/boxed_last"] <= 100
    assert not [name for name, w in first.state.weights().items() if w.equal(start[name])]

    loop = assemble(composed(*few, f"model.path={home}/base"))
    train, test, info, start = loop.state.data.train, loop.state.data.test, loop.state.info, loop.state.weights()
    assert all(w.equal(start[name]) for name, w in first.state.weights().items())
    said = info.spell(train.x.flatten().tolist())
    assert [(word in said) for word in ("Task 7", "Easy", "Orca")] == [True, False, False]
    assert [info.spell(x.tolist()) for x in test.x] == [f"Asked {k} Solution: It is \\boxed{{{k}}}" for k in range(4)]
    right = [f"\\boxed{{{text.split()[0]}}}" in text for text in said.split("Task ")[1:-1]]  # but the last text, which may be cut
    assert len(right) >= 57
    assert 4 <= sum(right) <= 6  # 54 of 60 end wrong
    assert 0 <= loop.run()["test/boxed_last"] <= 100
    assert not [name for name, w in loop.state.weights().items() if w.equal(start[name])]


ROWS = {
    "weak": {"hard": "Hard"},
    "subtasks": {"subtasks": "Part"},
    "both": {"hard": "Hard", "subtasks": "Part"},
    "rephrased": {"hard": "Hard", "rephrased": "Again"},
}


@pytest.mark.parametrize("row", ROWS)
def test_supervision_quality_reasoning_by_files(composed, home, row):
    few, base = reasoning(home), tiny_lm.write(home / "model", "Llama")
    spec = tables("noise/supervision_quality_reasoning", "paper")["t1"]
    (cell,) = (c for c in of_table("noise/supervision_quality_reasoning", spec, "paper", [0]) if c.row == row)
    overrides = [o.replace("~/.cache/runner/math", str(home)) for o in cell.overrides if o != "scale=paper" and "recipe=" not in o]
    loop = assemble(composed(*few, f"model.path={base}", *overrides))
    said = loop.state.info.spell(loop.state.data.train.x.flatten().tolist())
    assert {word for word in ("Hard", "Part", "Again", "Task", "Easy") if word in said} == set(ROWS[row].values())
    assert "test/boxed_last" in loop.run()
    *_, last = ROWS[row]
    (home / f"{last}.jsonl").unlink()
    with pytest.raises(UserError, match=rf"^data\.(solutions|also)=.*{last}\.jsonl cannot be read: No such file or directory$"):
        assemble(composed(*few, f"model.path={base}", *overrides))


def test_supervision_quality_reasoning_with_low_rank(composed, home):
    few, base = reasoning(home), tiny_lm.write(home / "model", "Llama")
    low = ("model.rank=2", "model.dtype=bfloat16", "with=[export]")
    loop = assemble(composed(*few, f"model.path={base}", *low, f"with.export.path={home}/base"))
    start = loop.state.weights()
    assert "test/boxed_last" in loop.run()
    assert {n for n, w in loop.state.weights().items() if not w.equal(start[n])} == {n for n, p in loop.state.model.named_parameters() if p.requires_grad}
    second = assemble(composed(*few, f"model.path={home}/base", *low, f"with.export.path={home}/second"))
    written = transformers.AutoModelForCausalLM.from_pretrained(home / "base").state_dict()
    frozen = {n.removeprefix("network."): p for n, p in second.state.model.named_parameters() if not p.requires_grad}
    assert frozen.keys() == written.keys()
    assert all(p.equal(written[n].bfloat16()) for n, p in frozen.items())


def test_sr_ste(composed, imagenet):
    few = ("model.arch=resnet18", f"data.root={imagenet}", "data.share=0.5", "data.size=36", "data.workers=0", "trainer.eval_batch=500")
    loop = assemble(composed("+recipe=sparsity/nm", *few, "trainer.duration=2it", "trainer.batch_size=4", "schedule.warmup=0it"))
    assert "test/acc_last" in loop.run()
    model = loop.state.model
    sparse = {name for name, module in model.named_modules() if hasattr(module, "parametrizations")}
    kernels = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Conv2d)}
    assert sparse == kernels - {"conv1"}  # of three channels; fc is dense too
    used = model.layer1[0].conv1.weight.detach().movedim(1, -1).reshape(-1, 4)
    assert (used != 0).sum(1).tolist() == [2] * len(used)


SMALL = ("model.depth=10", "model.width=1")
REDUCED = {
    "robust/trades": (*SMALL, "learner.steps=2", "probe.pgd.steps=2"),
    "optim/lookahead": ("model.depth=8", "with.lookahead.k=2"),
    "sharpness": ("model.depth=8", "probe.sharpness.samples=8", "probe.sharpness.iterations=2"),
    "sparsity/lottery": ("model.depth=8", "sparsity.rounds=2", "sparsity.round=1it", "sparsity.rewind=1it"),
    "sparsity/magnitude": (*SMALL, "sparsity.every=1it"),
    "sparsity/rigl": SMALL,
    "sparsity/set": ("model.widths=[40,10,40]", "sparsity.sparsity=0.5"),
    "sparsity/static": ("model.depth=8",),
    "sparse_training": SMALL,
}


@pytest.mark.parametrize("recipe", REDUCED)
def test_photographs(composed, recipe, monkeypatch):
    g = torch.Generator().manual_seed(0)
    images = (torch.randint(256, (100, 3, 32, 32), generator=g, dtype=torch.uint8), torch.arange(100) % 10)
    monkeypatch.setattr(cifar10, "cifar", lambda name, root, download: [images, images])
    loop = assemble(composed(f"+recipe={recipe}", "trainer.duration=2it", "trainer.batch_size=8", "trainer.eval_every=1it", *REDUCED[recipe]))
    start, summary = loop.state.weights(), loop.run()
    assert "test/acc_last" in summary
    assert not [name for name, w in loop.state.weights().items() if name.endswith("weight") and w.equal(start[name])]
    assert all(w.isfinite().all() for w in loop.state.weights().values())
    sparse = {"sparsity/lottery": 20, "sparsity/magnitude": 90, "sparsity/rigl": 90, "sparsity/set": 50, "sparsity/static": 90, "sparse_training": 90}
    if recipe in sparse:
        zeros = [int((m == 0).sum()) for m in loop.state.masks.values()]
        assert 100 * sum(zeros) / sum(m.numel() for m in loop.state.masks.values()) == pytest.approx(sparse[recipe], abs=0.1)
    if recipe == "robust/trades":
        assert "test/acc_adversarial_last" in summary
