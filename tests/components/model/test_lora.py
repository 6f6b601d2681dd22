"""Low-rank adaptation: the merged weights in closed form, peft's numbers, what is trained and how much of it, runs that stop and go on, half precision."""

import copy
import io
import json

import pytest
import tiny_transformer
import torch

from runner.components.model.pretrained import build
from runner.config.bind import bind
from runner.config.compose import composer
from runner.core import snapshot
from runner.core.data import Info
from runner.execution.assemble import assemble

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
IDS = torch.randint(5, 20, (4, 12), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=["Bert", "GPT2", "Llama"])
def folder(request, tmp_path_factory):
    return tiny_transformer.write(tmp_path_factory.mktemp(request.param), request.param)


def made(folder, **values):
    torch.manual_seed(0)
    return build(str(folder), **values)(Info("classification", (16,), 3, vocabulary=len(tiny_transformer.WORDS)), None).eval()


def linear(model):
    """Name and layer of all linear layers of the body, whose weights are (out, in), and (in, out) in GPT-2."""
    kinds = (torch.nn.Linear, transformers.pytorch_utils.Conv1D)
    return {n: m for n, m in model.network.base_model.named_modules() if isinstance(m, kinds) and ".lora." not in n}


def random(model, std=1.0):
    """The model with corrections that do something."""
    for layer in linear(model).values():
        torch.nn.init.normal_(layer.lora.up.weight, std=std)
    return model


def test_it_begins_as_the_model_itself(folder):
    plain, low = made(folder), made(folder, rank=4)
    assert torch.equal(low(IDS), plain(IDS))
    assert not torch.allclose(random(low)(IDS), plain(IDS), atol=1e-2)


def test_it_is_the_model_with_merged_weights(folder):
    plain, low = made(folder), random(made(folder, rank=3, alpha=6.0))
    layers = linear(plain)
    assert len(layers) == {"BertModel": 13, "GPT2Model": 8, "LlamaModel": 14}[type(plain.network.base_model).__name__]
    with torch.no_grad():
        for name, layer in linear(low).items():
            change = 2.0 * layer.lora.up.weight @ layer.lora.down.weight
            layers[name].weight += change if isinstance(layer, torch.nn.Linear) else change.T
    assert torch.allclose(low(IDS), plain(IDS), atol=1e-4)


def test_what_is_trained(folder):
    plain, low = made(folder), made(folder, rank=4)
    body = {id(p) for p in plain.network.base_model.parameters()}
    head = sum(p.numel() for p in plain.parameters() if id(p) not in body)
    trained = {n: p for n, p in low.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) == head + sum(4 * sum(layer.weight.shape) for layer in linear(plain).values())
    low(IDS).square().sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in low.parameters())


def test_the_numbers_of_peft(folder):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    low = random(made(folder, rank=4, alpha=8.0))
    plain = made(folder)
    network = copy.deepcopy(plain.network)
    if hasattr(network, "score"):
        network.score = copy.deepcopy(plain.head)
    network.config.pad_token_id = low.padding
    theirs = peft.get_peft_model(network, peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="SEQ_CLS")).eval()
    layers = {n: m for n, m in theirs.base_model.model.base_model.named_modules() if hasattr(m, "lora_A")}
    assert layers.keys() == linear(low).keys()
    for name, layer in linear(low).items():
        layers[name].lora_A.default.weight.data.copy_(layer.lora.down.weight)
        layers[name].lora_B.default.weight.data.copy_(layer.lora.up.weight)
    expected = theirs(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    assert torch.allclose(low(IDS), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_moves_what_is_trained_alone_and_goes_on_where_it_stopped(folder, tmp_path, monkeypatch, dtype):
    import datasets

    monkeypatch.setenv("RUNNER_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    rows = 8 * [("a good film", "yes"), ("the plot is dull", "no")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in rows))
    chosen = ["data=texts", f"data.path={tmp_path / 'rows.jsonl'}", f"data.tokenizer={folder}", "data.test=null", "data.length=16", "model=pretrained"]
    chosen += [f"model.path={folder}", "model.rank=2", f"model.dtype={dtype}", "optimizer=adamw", "optimizer.lr=1e-2", "optimizer.weight_decay=0.1"]
    chosen += ["trainer.duration=4it", "trainer.batch_size=4", "trainer.clip=1.0", f"trainer.precision={'bf16' if dtype == 'bfloat16' else 'fp32'}"]

    def start():
        with composer() as composed:
            return assemble(bind(composed(chosen)), lambda row: None)

    class Halt(Exception):
        pass

    def halt(loop):
        if loop.state.step == 2:
            raise Halt

    straight = start()
    before, body = straight.state.weights(), {n: p.clone() for n, p in straight.state.model.named_parameters() if not p.requires_grad}
    assert {id(p) for p in straight.state.parameters()} == {id(p) for p in straight.state.model.parameters() if p.requires_grad}
    summary = straight.run()
    assert 0 <= summary["test/acc_last"] <= 100
    trained = {n for n, p in straight.state.model.named_parameters() if p.requires_grad}
    assert {n for n, w in straight.state.weights().items() if not torch.equal(w, before[n])} == trained
    assert body
    assert all(torch.equal(p, body[n]) for n, p in straight.state.model.named_parameters() if n in body)
    first, file = start(), io.BytesIO()
    with pytest.raises(Halt):
        first.run(halt)
    torch.save(saved := snapshot.save(first), file)
    assert not saved["state"]["model"].keys() & body.keys()
    file.seek(0)
    second = start()
    snapshot.load(second, torch.load(file, weights_only=True))
    assert second.run() == summary
    assert all(torch.equal(w, straight.state.weights()[n]) for n, w in second.state.weights().items())


def test_frozen_weights_in_half_precision(folder):
    whole, half = random(made(folder, rank=4), 0.1), made(folder, rank=4, dtype="bfloat16")
    half.load_state_dict(whole.state_dict())
    assert all(p.dtype == (torch.float32 if p.requires_grad else torch.bfloat16) for p in half.parameters())
    scale = whole(IDS).abs().max()
    for precision in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            z = half(IDS)
            assert (z - whole(IDS)).abs().max() < 0.05 * scale
        half.zero_grad()
        z.float().square().sum().backward()
        assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in half.parameters() if p.requires_grad)
    with pytest.raises(ValueError, match="dtype=bfloat16 is for weights that are frozen; set rank"):
        made(folder, dtype="bfloat16")


def test_what_stands_still_is_not_saved_and_all_that_was_saved_can_be_loaded(folder):
    low, other = random(made(folder, rank=2)), copy.deepcopy(made(folder, rank=2))
    whole = made(folder).state_dict()
    assert low.state_dict().keys() & {n for n, p in low.named_parameters()} == {n for n, p in low.named_parameters() if p.requires_grad}
    assert not torch.allclose(other(IDS), low(IDS), atol=1e-2)
    other.load_state_dict(low.state_dict())
    assert torch.equal(other(IDS), low(IDS))
    other.load_state_dict(low.state_dict() | {n: torch.zeros_like(w) for n, w in whole.items()})  # saved with all weights, as it was before
    assert all((p == 0).all() for n, p in other.named_parameters() if not p.requires_grad)
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({})
