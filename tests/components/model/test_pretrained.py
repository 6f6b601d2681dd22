"""pretrained: what `transformers` computes for the same texts and pairs; padding changes nothing; differentiable twice; what is wrong is said."""

import pytest
import tiny_bert
import torch

from runner import UserError
from runner.components.model.pretrained import build
from runner.core.data import Info

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
FIRST, SECOND = ["a good film", "the cat sat", "not very fine"], ["the plot is dull", "dogs ran", "bad"]


@pytest.fixture(scope="module", params=["Bert", "DistilBert", "Roberta"])
def folder(request, tmp_path_factory):
    return tiny_bert.write(tmp_path_factory.mktemp(request.param), request.param)


def made(folder, length=16, **values):
    torch.manual_seed(0)
    return build(str(folder), **values)(Info("classification", (length,), 3), None)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_it_computes_what_the_library_does(folder, pairs, attention):
    model = made(folder, attention=attention).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(FIRST, *([SECOND] if pairs else []), padding=True, return_tensors="pt")
    if model.separator is None:
        batch.pop("token_type_ids", None)
    elif pairs:
        assert batch["token_type_ids"].sum() > 0
    expected = model.network(**batch).logits
    padded = torch.nn.functional.pad(batch["input_ids"], (0, 4), value=tokenizer.pad_token_id)
    assert torch.allclose(model(batch["input_ids"]), expected, atol=1e-6)
    assert torch.allclose(model(padded.int()), expected, atol=1e-5)


def test_the_body_is_that_of_the_files_and_the_head_is_new(folder):
    bodies = [dict(made(folder).network.base_model.named_parameters()) for _ in range(2)]
    stored = dict(transformers.AutoModel.from_pretrained(folder).named_parameters())
    same = [name for name in bodies[0] if not name.startswith("pooler")]
    assert len(same) > 20
    assert all(torch.equal(body[name], stored[name]) for body in bodies for name in same)
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        head = build(str(folder))(Info("classification", (16,), 3), None).network.classifier
        heads.append(next(p for p in head.parameters() if p.ndim == 2))
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_eager_attention_is_differentiable_twice(folder):
    model = made(folder, attention="eager").eval()
    ids = transformers.AutoTokenizer.from_pretrained(folder)(FIRST, padding=True, return_tensors="pt")["input_ids"]
    weight = next(p for n, p in model.named_parameters() if n.endswith(("query.weight", "q_lin.weight")))
    (first,) = torch.autograd.grad(model(ids).logsumexp(1).sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), weight)
    assert second.isfinite().all()
    assert second.abs().sum() > 0


def test_a_head_of_the_files_is_not_used(folder, tmp_path):
    first = made(folder)
    first.network.half().save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    for outputs in (3, 5):
        torch.manual_seed(1)
        again = build(str(tmp_path))(Info("classification", (16,), outputs), None)
        assert {p.dtype for p in again.parameters()} == {torch.float32}
        assert again(torch.full((2, 16), 6)).shape == (2, outputs)
        heads = [next(p for p in m.network.classifier.parameters() if p.ndim == 2) for m in (first, again)]
        assert heads[0].shape != heads[1].shape or not torch.equal(heads[0].float(), heads[1])
        assert 0.01 < heads[1].std() < 0.03


def test_what_is_wrong_is_said(folder, tmp_path):
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_text("damaged")
    with pytest.raises(UserError, match=r"^pretrained model '.*' cannot be used: ") as error:
        made(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"does not take texts of 64 tokens, see data\.length"):
        made(folder, 64)
    with pytest.raises(UserError, match="token ids, not numbers"):
        made(folder)(torch.zeros(2, 16))
    with pytest.raises(UserError, match=r"^tokenizer '.*none' is not on this machine: looked in .*model\.path"):
        made(tmp_path / "none")
    with pytest.raises(UserError, match=r"token ids \(T,\), not inputs of shape \(3, 8, 8\); set data=texts"):
        build(str(folder))(Info("classification", (3, 8, 8), 3), None)
