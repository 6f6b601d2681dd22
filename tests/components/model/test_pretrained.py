"""pretrained: what `transformers` computes for the same texts and pairs; padding changes nothing; differentiable twice; what is wrong is said."""

import copy
import functools

import pytest
import tiny_transformer
import torch

from runner import UserError
from runner.components._learned import drawn
from runner.components._words import Words
from runner.components.model.pretrained import build
from runner.core.data import Info

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
FIRST, SECOND = ["a good film", "the cat sat", "not very fine"], ["the plot is dull", "dogs ran", "bad"]


DECODERS = ["GPT2", "Llama"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Each family is written once."""
    return functools.cache(lambda family: tiny_transformer.write(tmp_path_factory.mktemp(family), family))


@pytest.fixture(params=["Bert", "DistilBert", "Roberta", *DECODERS])
def folder(request, written):
    return written(request.param)


def made(folder, length=16, outputs=3, seed=0, **values):
    torch.manual_seed(seed)
    return build(str(folder), **values)(Info("classification", (length,), outputs, vocabulary=len(tiny_transformer.WORDS)), None)


def head(model):
    """The matrix of the head nearest to the body."""
    body = {id(p) for p in model.network.base_model.parameters()}
    return next(p for p in model.parameters() if id(p) not in body and p.ndim == 2)


def library(model):
    """The library's own classifier with the same weights."""
    network = copy.deepcopy(model.network)
    if hasattr(network, "score"):
        network.score = model.head
    return network


def tokens(folder, *texts):
    """Padded on the right, as the data gives them."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer(*texts, padding=True, padding_side="right", return_tensors="pt")


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_it_computes_what_the_library_does(folder, pairs, attention):
    model = made(folder, attention=attention).eval()
    batch = tokens(folder, FIRST, *([SECOND] if pairs else []))
    if model.separator is None:
        batch.pop("token_type_ids", None)
    elif pairs:
        assert batch["token_type_ids"].sum() > 0
    expected = library(model)(**batch).logits
    padded = torch.nn.functional.pad(batch["input_ids"], (0, 4), value=model.padding)
    assert torch.allclose(model(batch["input_ids"]), expected, atol=1e-6)
    assert torch.allclose(model(padded.int()), expected, atol=1e-5)


@pytest.mark.parametrize("family", DECODERS)
def test_a_decoder_is_read_at_the_last_token_of_the_text(written, family):
    folder = written(family)
    assert transformers.AutoTokenizer.from_pretrained(folder).pad_token is None
    model = made(folder).eval()
    body = transformers.AutoModel.from_pretrained(folder)
    alone = torch.cat([body(tokens(folder, [text])["input_ids"]).last_hidden_state[:, -1] for text in FIRST])
    expected = alone @ head(model).T
    assert (expected[0] - expected[1]).abs().max() > 1e-2
    assert torch.allclose(model(tokens(folder, FIRST)["input_ids"]), expected, atol=1e-5)


def test_the_body_is_that_of_the_files_and_the_head_is_new(folder):
    bodies = [dict(made(folder).network.base_model.named_parameters()) for _ in range(2)]
    stored = dict(transformers.AutoModel.from_pretrained(folder).named_parameters())
    same = [name for name in bodies[0] if not name.startswith("pooler")]
    assert len(same) >= 20
    assert all(torch.equal(body[name], stored[name]) for body in bodies for name in same)
    heads = [head(made(folder, seed=seed)) for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_only_the_head_is_drawn(folder):
    model = made(folder)
    body = {id(p) for p in model.network.base_model.parameters()}
    assert {id(model.get_parameter(name)) for name in drawn(model.to(torch.float64))} == {id(p) for p in model.parameters()} - body


def test_eager_attention_is_differentiable_twice(folder):
    model = made(folder, attention="eager").eval()
    weight = next(p for n, p in model.named_parameters() if n.endswith(("query.weight", "q_lin.weight", "c_attn.weight", "q_proj.weight")))
    (first,) = torch.autograd.grad(model(tokens(folder, FIRST)["input_ids"]).logsumexp(1).sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), weight)
    assert second.isfinite().all()
    assert second.abs().sum() > 0


def test_a_head_of_the_files_is_not_used(folder, tmp_path):
    first = made(folder)
    library(first).half().save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    for outputs in (3, 5):
        again = made(tmp_path, outputs=outputs, seed=1)
        assert {p.dtype for p in again.parameters()} == {torch.float32}
        assert again(torch.full((2, 16), 6)).shape == (2, outputs)
        heads = [head(m) for m in (first, again)]
        assert heads[0].shape != heads[1].shape or not torch.equal(heads[0].float(), heads[1])
        assert 0.01 < heads[1].std() < 0.03


def test_what_is_wrong_is_said(folder, written, tmp_path):
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_text("damaged")
    with pytest.raises(UserError, match=r"^pretrained model '.*' cannot be used: ") as error:
        made(tmp_path)
    assert "\n" not in str(error.value)
    if folder != written("Llama"):  # whose positions are a rotation
        with pytest.raises(UserError, match=r"does not take texts of 64 tokens, see data\.length"):
            made(folder, 64)
    with pytest.raises(UserError, match=r"^the data has 22 token ids, '.*' knows 21; data\.tokenizer must be that of model\.path$"):
        build(str(folder))(Info("classification", (16,), 3, vocabulary=22), None)
    words = tiny_transformer.WORDS
    build(str(folder))(Words("classification", (16,), 3, vocabulary=21, words=tuple(words)), None)
    with pytest.raises(UserError, match=r"^the data's token ids stand for other words than those of '.*'; data\.tokenizer must be that of model\.path$"):
        build(str(folder))(Words("classification", (16,), 3, vocabulary=21, words=(*words[:-2], words[-1], words[-2])), None)
    with pytest.raises(UserError, match=r"^tokenizer '.*none' is not on this machine: looked in .*model\.path"):
        made(tmp_path / "none")


def test_encoders_with_a_decoder_are_refused(tmp_path):
    tiny_transformer.write_tokenizer(tmp_path, None)
    config = transformers.T5Config(vocab_size=len(tiny_transformer.WORDS), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"^model=pretrained takes encoders and decoders, '.*' is both at once; choose another with model\.path$"):
        made(tmp_path)


@pytest.mark.parametrize("marks", ["$A [SEP]", "[SEP] $A"])
def test_a_tokenizer_that_pads_with_what_it_puts_into_every_text_is_refused(tmp_path, marks):
    tiny_transformer.write(tmp_path, "GPT2", marks)
    with pytest.raises(UserError, match=r"^the tokenizer of '.*' puts its padding token \[SEP\] into every text; choose another with model\.path$"):
        made(tmp_path)
