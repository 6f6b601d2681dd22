"""causal_lm: the library's logits, and its own greedy texts; drawn tokens are as frequent as likely; several prompts at once; LoRA; what is wrong is said."""

import pytest
import tiny_lm
import torch
from scipy import stats

from runner import UserError
from runner.components._learned import drawn
from runner.components._words import Words
from runner.components.model.causal_lm import build
from runner.core.data import Info

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
IDS = torch.randint(256, (3, 20), generator=torch.Generator().manual_seed(1))
PROMPTS = [IDS[0, :3], IDS[1, :11], IDS[2, :20]]


@pytest.fixture(scope="module", params=["GPT2", "Llama"])
def folder(request, tmp_path_factory):
    return tiny_lm.write(tmp_path_factory.mktemp(request.param), request.param)


def made(folder, length=32, outputs=258, **values):
    torch.manual_seed(0)
    return build(str(folder), **values)(Info("language", (length,), outputs), None).eval()


def library(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def greedy(network, prompt, tokens):
    """The most likely next token again and again, without cache, padding or the library's `generate`."""
    ids = prompt.tolist()
    for _ in range(tokens):
        ids.append(int(network(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_logits_are_the_librarys(folder, attention):
    model = made(folder, attention=attention)
    z = model(IDS)
    assert z.shape == (3, 20, 258)
    assert z.dtype == torch.float32
    assert torch.allclose(z, library(folder)(input_ids=IDS).logits, atol=1e-5)
    assert not drawn(model)
    assert all(p.requires_grad for p in model.parameters())


def test_it_writes_what_the_library_does(folder):
    model, network = made(folder), library(folder)
    written = model.write(PROMPTS, 25)
    assert [len(row) for row in written] == [25] * 3  # none of these ends
    for prompt, row in zip(PROMPTS, written, strict=True):
        theirs = network.generate(prompt[None], attention_mask=torch.ones_like(prompt[None]), max_new_tokens=25, do_sample=False, pad_token_id=257)
        assert row.tolist() == theirs[0, len(prompt) :].tolist() == greedy(network, prompt, 25)
        assert torch.equal(model.write([prompt], 25)[0], row)
    assert len({tuple(row.tolist()) for row in written}) == 3
    assert not model.network.training


def test_a_text_ends_where_the_model_ends_it(folder):
    model = made(folder)
    whole = model.write(PROMPTS, 25)
    model.end = model.network.generation_config.eos_token_id = int(whole[1][4])  # as if this token ended texts
    for row, full in zip(model.write(PROMPTS, 25), whole, strict=True):
        before = full.tolist().index(model.end) if model.end in full else 25
        assert row.tolist() == full.tolist()[:before]
    assert len(model.write(PROMPTS, 25)[1]) == whole[1].tolist().index(model.end) <= 4


def allowed(z, temperature, top_k, top_p):
    """Probabilities of the next token: softmax(z / T), of the k most likely, of the fewest of these that have p together."""
    p = (z.double() / temperature).softmax(-1)
    order = p.argsort(descending=True)
    if top_k:
        order = order[:top_k]
    share = p[order] / p[order].sum()
    order = order[: int((share.cumsum(0) < top_p).sum()) + 1]
    kept = torch.zeros_like(p).scatter(0, order, p[order])
    return kept / kept.sum()


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.6, 0, 1.0), (3.0, 0, 1.0), (2.0, 12, 1.0), (2.0, 0, 0.7), (2.0, 50, 0.9)])
def test_tokens_are_drawn_as_often_as_they_are_likely(folder, temperature, top_k, top_p):
    model, n, prompt = made(folder), 3000, PROMPTS[1]
    written = model.write([prompt] * n, 1, temperature, top_k, top_p, seed=3)
    drawn = torch.tensor([int(row[0]) if len(row) else model.end for row in written]).bincount(minlength=258).double()
    expected = n * allowed(library(folder)(input_ids=prompt[None]).logits[0, -1].detach(), temperature, top_k, top_p)
    assert drawn[expected == 0].sum() == 0
    large = expected >= 5  # the others together
    counts = [torch.cat([v[large], v[~large].sum()[None]]).numpy() for v in (drawn, expected)]
    kept = counts[1] > 0
    assert kept.sum() >= 5
    assert stats.chisquare(counts[0][kept], counts[1][kept]).pvalue > 1e-3


def test_draws_hang_on_their_seed_alone(folder):
    model = made(folder)
    texts = []
    for seed in (0, 0, 1):
        before = torch.get_rng_state()
        texts.append([row.tolist() for row in model.write(PROMPTS, 25, 0.8, seed=seed)])
        assert torch.equal(before, torch.get_rng_state())
        torch.rand(3)
    assert texts[0] == texts[1] != texts[2]
    assert [row.tolist() for row in model.write(PROMPTS, 25)] == [row.tolist() for row in model.write(PROMPTS, 25, 0.0, seed=5)]
    cold = model.write(PROMPTS, 25, 1e-4, seed=5)
    assert [row.tolist() for row in cold] == [greedy(library(folder), p, 25) for p in PROMPTS]


def test_it_writes_no_more_than_there_is_place_for(folder):
    model = made(folder)
    long = torch.arange(tiny_lm.POSITIONS)
    assert [len(row) for row in model.write([long[:120], IDS[0]], 25)] == [8, 8]
    assert [len(row) for row in model.write([long], 25)] == [0]


def test_options_of_the_files_do_not_draw(folder, tmp_path):
    network = library(folder)
    network.generation_config = transformers.GenerationConfig(do_sample=True, temperature=5.0, eos_token_id=257, pad_token_id=257, max_length=7)
    network.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    for a, b in zip(made(tmp_path).write(PROMPTS, 25), made(folder).write(PROMPTS, 25), strict=True):
        assert torch.equal(a, b)


def test_rows_of_no_token_are_left_out(tmp_path):
    assert made(tiny_lm.write(tmp_path, "Llama", rows=264))(IDS).shape == (3, 20, 258)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_low_rank_begins_as_the_model(folder, dtype):
    low = made(folder, rank=3, dtype=dtype)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    assert torch.equal(low(IDS), network(input_ids=IDS).logits.float())
    trained = {n: p for n, p in low.named_parameters() if p.requires_grad}
    assert set(drawn(low)) == set(trained)
    assert all(".lora." in n and p.dtype == torch.float32 for n, p in trained.items())
    assert all(p.dtype == getattr(torch, dtype) for p in low.parameters() if not p.requires_grad)
    assert low.state_dict().keys() & dict(low.named_parameters()).keys() == trained.keys()
    low(IDS).square().sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in low.parameters())
    with pytest.raises(ValueError, match="dtype=bfloat16 is for weights that are frozen; set rank"):
        made(folder, dtype="bfloat16")


def test_low_rank_is_the_model_with_merged_weights(folder):
    first, plain, low = made(folder), made(folder), made(folder, rank=3, alpha=6.0)
    changed = {name: layer for name, layer in low.named_modules() if hasattr(layer, "lora")}
    assert len(changed) == {"GPT2Config": 8, "LlamaConfig": 14}[type(low.network.config).__name__]  # not the one that gives logits
    with torch.no_grad():
        for name, layer in changed.items():
            torch.nn.init.normal_(layer.lora.up.weight, std=0.3)
            change = 2.0 * layer.lora.up.weight @ layer.lora.down.weight
            plain.get_submodule(name).weight += change.T if isinstance(layer, transformers.pytorch_utils.Conv1D) else change
    assert not torch.allclose(first(IDS), plain(IDS), atol=0.1)
    assert torch.allclose(low(IDS), plain(IDS), atol=1e-3)
    assert [row.tolist() for row in low.write(PROMPTS, 10)] == [row.tolist() for row in plain.write(PROMPTS, 10)]


def test_compiled_it_writes_the_same(folder):
    model = made(folder)
    model.compile(backend="eager")
    plain = made(folder)
    assert torch.allclose(model(IDS), plain(IDS), atol=1e-5)
    for a, b in zip(model.write(PROMPTS, 5), plain.write(PROMPTS, 5), strict=True):
        assert torch.equal(a, b)


def test_what_is_wrong_is_said(folder, tmp_path):
    with pytest.raises(UserError, match=r"^'.*' does not take texts of 129 tokens, see data\.length: it has 128 positions$"):
        made(folder, 129)
    with pytest.raises(UserError, match=r"^the data has 259 token ids, '.*' knows 258; data\.tokenizer must be that of model\.path$"):
        made(folder, outputs=259)
    words = transformers.AutoTokenizer.from_pretrained(folder).convert_ids_to_tokens(range(258))
    build(str(folder))(Words("language", (16,), 258, words=tuple(words)), None)
    with pytest.raises(UserError, match=r"^the data's token ids stand for other words than those of '.*'; data\.tokenizer must be that of model\.path$"):
        build(str(folder))(Words("language", (16,), 258, words=tuple(words[::-1])), None)
    with pytest.raises(UserError, match=r"^tokenizer '.*none' is not on this machine: looked in .*model\.path"):
        made(tmp_path / "none")


def test_a_network_that_looks_ahead_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^'.*' sees the tokens that it is to predict, it is no language model; choose another with model\.path$"):
        made(tiny_lm.write(tmp_path, "Bert"))
