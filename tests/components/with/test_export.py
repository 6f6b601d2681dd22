"""export: the library gives the trained network's logits from the folder, another run begins at exactly its weights; LoRA; what stays and what is refused."""

import json

import math_files
import pytest
import tiny_lm
import torch

from runner import UserError, contracts
from runner.config.bind import bind
from runner.execution.assemble import assemble

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
IDS = torch.randint(256, (3, 20), generator=torch.Generator().manual_seed(1))
FAMILIES = {"GPT2": {}, "Llama": {}, "tied": {"tie_word_embeddings": True}}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    family = request.param.replace("tied", "Llama")
    return str(tiny_lm.write(tmp_path_factory.mktemp(request.param), family, **FAMILIES[request.param]))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return str(math_files.many(tmp_path_factory.mktemp("math")))


def tree(folder, root, path, trainer=None, **model):
    return {
        "data": {"name": "math_texts", "root": root, "tokenizer": folder, "length": 120},
        "model": {"name": "causal_lm", "path": folder, **model}, "loss": "ce", "learner": "supervised", "optimizer": {"name": "adamw", "lr": 0.01},
        "schedule": "constant", "noise": "none", "sparsity": "none", "softmax": "softmax", "device": "cpu", "eval": {"loss": {"name": "loss"}},
        "with": {"export": {"name": "export", "path": str(path)}}, "trainer": {"name": "standard", "duration": "3it", "batch_size": 4, **(trainer or {})},
    }  # fmt: skip


def logits(loop):
    return loop.state.model.eval()(IDS)


def test_the_library_reads_the_trained_network(folder, root, tmp_path):
    loop = assemble(tree(folder, root, tmp_path / "out"))
    start = loop.state.weights()
    loop.run()
    assert not any(w.equal(start[name]) for name, w in loop.state.weights().items() if name.endswith("weight"))
    network = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert network.dtype == torch.float32
    assert network.config.use_cache
    assert torch.equal(network(input_ids=IDS).logits[..., :258], logits(loop))
    theirs = {"network." + name: w for name, w in network.state_dict().items()}
    assert theirs.keys() == loop.state.weights().keys()
    assert all(torch.equal(w, theirs[name]) for name, w in loop.state.weights().items())
    one, other = (transformers.AutoTokenizer.from_pretrained(f) for f in (folder, tmp_path / "out"))
    assert one("é, \\frac12 </s> .")["input_ids"] == other("é, \\frac12 </s> .")["input_ids"]
    assert json.loads((tmp_path / "out" / "runner.json").read_text()) == {"steps": 3, "seed": 0}
    assert {f.name for f in tmp_path.iterdir()} == {"out"}
    assert not list((tmp_path / "out").glob("*.bin"))
    assert not loop.state.model.network.config.use_cache


def test_another_run_begins_there(folder, root, tmp_path):
    loop = assemble(tree(folder, root, tmp_path / "out"))
    loop.run()
    second = assemble(tree(str(tmp_path / "out"), root, tmp_path / "second"))
    assert all(torch.equal(w, loop.state.weights()[name]) for name, w in second.state.weights().items())
    assert torch.equal(second.state.data.train.x, loop.state.data.train.x)
    assert second.state.info.words == loop.state.info.words


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_low_rank_is_merged(folder, root, tmp_path, dtype):
    loop = assemble(tree(folder, root, tmp_path / "out", rank=3, alpha=6.0, dtype=dtype, trainer={"duration": "20it"}))
    first = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()(input_ids=IDS).logits
    loop.run()
    network = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert network.dtype == torch.float32
    assert not [name for name in network.state_dict() if "lora" in name]
    merged, trained = network(input_ids=IDS).logits[..., :258], logits(loop)
    assert (trained - first).abs().max() > 1
    difference = (merged - trained).abs().max()
    assert difference < (1e-4 if dtype == "float32" else 0.25)  # bfloat16 has 8 bits, logits here are up to some 10
    layer = next(m for m in loop.state.model.modules() if hasattr(m, "lora"))
    name = next(n for n, m in loop.state.model.network.named_modules() if m is layer)
    change = 2.0 * layer.lora.up.weight @ layer.lora.down.weight
    change = change.T if isinstance(layer, transformers.pytorch_utils.Conv1D) else change
    assert torch.allclose(network.get_submodule(name).weight, layer.weight.float() + change, atol=1e-6)
    second = assemble(tree(str(tmp_path / "out"), root, tmp_path / "second"))
    assert torch.equal(logits(second), merged)


def test_a_run_that_goes_on_writes_the_same(root, tmp_path):
    folder = str(tiny_lm.write(tmp_path / "model", "GPT2"))
    assemble(tree(folder, root, tmp_path / "straight")).run()

    def start():
        assert not (tmp_path / "out").exists()
        return assemble(tree(folder, root, tmp_path / "out"))

    contracts.interrupted(start, 2)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("straight", "out"))
    assert one == other


def test_what_is_there_is_replaced_if_it_is_an_export(root, tmp_path):
    folder = str(tiny_lm.write(tmp_path / "model", "GPT2"))
    out, killed = tmp_path / "deep" / "out", tmp_path / "deep" / "out.part"
    assemble(tree(folder, root, out)).run()
    before = (out / "model.safetensors").read_bytes()
    (out / "more.txt").write_text("of before")
    killed.mkdir()
    (killed / "half.txt").write_text("of a process that was killed")
    assemble(tree(folder, root, out, trainer={"duration": "2it"})).run()
    assert (out / "model.safetensors").read_bytes() != before
    assert [f.name for f in out.parent.iterdir()] == ["out"]
    assert not (out / "more.txt").exists()
    assert not (out / "half.txt").exists()
    now = (out / "model.safetensors").read_bytes()
    loop = assemble(tree(folder, root, out))

    def full(*args):
        raise OSError(28, "No space left on device")

    loop.state.model.cut.save_pretrained = full
    with pytest.raises(OSError, match="No space left"):
        loop.run()
    assert (out / "model.safetensors").read_bytes() == now
    assert [f.name for f in out.parent.iterdir()] == ["out"]
    with pytest.raises(UserError, match=r"^with\.export\.path=.*model is there and no export of before; name another folder$"):
        assemble(tree(folder, root, folder))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^with\.export\.path=.*file is there and no export of before; name another folder$"):
        assemble(tree(folder, root, tmp_path / "file"))
    with pytest.raises(UserError, match=r"^with\.export\.path=.*out cannot be written: (Not a directory|File exists)$"):
        assemble(tree(folder, root, tmp_path / "file" / "out"))


def test_what_does_not_fit_is_refused(root, tmp_path):
    folder = str(tiny_lm.write(tmp_path / "model", "GPT2"))
    config = tree(folder, root, tmp_path / "out")
    with pytest.raises(UserError, match=r"^with/export writes after the last step, and this run has none; see trainer\.duration$"):
        assemble(tree(folder, root, tmp_path / "out", trainer={"duration": "0it"}))
    own = config | {"data": {"name": "modular", "modulus": 13}, "model": {"name": "gpt", "width": 16, "depth": 1, "heads": 2}}
    with pytest.raises(UserError, match=r"^with/export needs a model that can be written and read again, as model=causal_lm; leave it out of with$"):
        assemble(own)
    with pytest.raises(UserError, match=r"^with/export acts on the weights that are evaluated, which with/ema replaces: choose one of them$"):
        bind(config | {"with": config["with"] | {"ema": {"name": "ema"}}})
    loop = assemble(config)
    torch.nn.utils.parametrizations.weight_norm(loop.state.model.network.lm_head)
    with pytest.raises(UserError, match=r"^with/export writes weights as they are; a component of this run computes some from others"):
        loop.on.setup[-1](loop.state)
    assert not (tmp_path / "out").exists()


def test_masked_weights_are_zeros_in_the_files(root, tmp_path):
    folder = str(tiny_lm.write(tmp_path / "model", "Llama"))
    loop = assemble(tree(folder, root, tmp_path / "out") | {"sparsity": {"name": "static", "sparsity": 0.5}})
    loop.run()
    network = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loop.state.masks
    for name, mask in loop.state.masks.items():
        assert (network.get_parameter(name.removeprefix("network.")) == 0).equal(mask == 0)
