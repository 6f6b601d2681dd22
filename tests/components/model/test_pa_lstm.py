"""pa_lstm: the paper's equations, word by word; padding changes nothing; the authors' number of weights; vectors of words; what is wrong is said."""

import pytest
import torch

from runner import UserError
from runner.components._learned import drawn
from runner.components._words import Words
from runner.components.model.pa_lstm import build
from runner.core.data import Info

WORDS = ("", "", ".", "in", "Ohio", "he", "naïve", "SUBJ-PERSON", "x")
INFO = Words("classification", (5, 6), 3, vocabulary=9, words=WORDS)
X = torch.tensor([
    [[5, 2, 8, 1, 0, 0], [3, 4, 2, 1, 0, 0], [2, 3, 1, 4, 0, 0], [5, 6, 7, 8, 0, 0], [4, 5, 6, 6, 0, 0]],
    [[7, 3, 4, 6, 2, 8], [2, 2, 3, 4, 1, 3], [1, 2, 2, 3, 4, 4], [6, 7, 8, 9, 10, 11], [1, 2, 3, 4, 5, 6]],
    [[2, 0, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0]],
])  # fmt: skip


def made(info=INFO, seed=0, **options):
    torch.manual_seed(seed)
    return build(**{"vocabulary": 9, "tags": 5, "entities": 5, "width": 4, "features": 2, "units": 3, "attention": 7, **options})(info, None)


def lively(**options):
    """All weights are drawn from a normal distribution, so that each of them matters."""
    model = made(**options).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.7)
    return model.requires_grad_(False)


def states(model, sample, count):
    """Of the upper layer at the words (count, units), one step at a time."""
    inputs = [torch.cat([table.weight[k] for table, k in zip((model.words, model.tags, model.entities), sample[:3, t], strict=True)]) for t in range(count)]
    for layer in model.lstms:
        w, u, a, b = (getattr(layer, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        h = c = torch.zeros(layer.hidden_size)
        for t, x in enumerate(inputs):
            i, f, g, o = (w @ x + a + u @ h + b).chunk(4)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            inputs[t] = h = o.sigmoid() * c.tanh()
    return inputs


@pytest.mark.parametrize("depth", [1, 2])
def test_the_equations_of_the_paper(depth):
    model = lively(depth=depth)
    of_subject, of_object = model.place.weight.chunk(2, 1)
    for sample, count, found in zip(X, (4, 6, 1), model(X.float()), strict=True):
        h = states(model, sample, count)
        subject, thing = (model.places.weight[sample[row, :count]] for row in (3, 4))
        u = [
            model.score.weight[0] @ (model.state(h[t]) + model.query.weight @ h[-1] + of_subject @ subject[t] + of_object @ thing[t]).tanh()
            for t in range(count)
        ]
        a = torch.stack(u).exp() / sum(v.exp() for v in u)
        z = sum(share * state for share, state in zip(a, h, strict=True))
        assert torch.allclose(found, model.out.weight @ z + model.out.bias, atol=1e-5)
        assert count == 1 or a.max() - a.min() > 0.05


def test_padding_changes_nothing():
    model = lively()
    junk = torch.where(X[:, :1] == 0, torch.tensor([0, 3, 4, 9, 2])[:, None], X)
    assert not torch.equal(junk, X)
    assert torch.allclose(model(junk), model(X), atol=1e-6)
    assert torch.allclose(model(X[:1, :, :4]), model(X)[:1], atol=1e-6)
    assert torch.allclose(model(X[:1]), model(X)[:1], atol=1e-6)
    assert not torch.allclose(model(X[:1, :, :3]), model(X)[:1], atol=1e-3)


def test_attention_starts_even_and_dropout_is_for_training():
    model = made(dropout=0.5).eval()
    found = model(X)
    for sample, count, z in zip(X, (4, 6, 1), found, strict=True):
        assert torch.allclose(z, model.out(torch.stack(states(model, sample, count)).mean(0)), atol=1e-6)
    assert not torch.allclose(model.train()(X), found, atol=1e-3)
    model.drop.p = 0.0
    assert torch.allclose(model(X), found, atol=1e-6)
    model(X).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert model.score.weight.grad.abs().sum() > 0


def test_a_share_of_what_each_lstm_is_given_is_dropped():
    model, shares = made(units=50, width=40, dropout=0.25), []
    for layer in model.lstms:
        layer.register_forward_pre_hook(lambda layer, given: shares.append((given[0] == 0)[1].double().mean().item()))
    model(X)
    model.eval()(X)
    assert shares == [pytest.approx(0.25, abs=0.1), pytest.approx(0.25, abs=0.1), 0, 0]


def test_weights_of_the_paper():
    with torch.device("meta"):
        model = build(vocabulary=20000)(Info("classification", (5, 100), 42, vocabulary=20000), None)
    tables = 20000 * 300 + (47 + 15 + 200) * 30  # one position less than the authors' have, whose -100 does not occur
    attention = 200 * 200 + 200 + 200 * 200 + 60 * 200 + 200
    assert sum(p.numel() for p in model.parameters()) == tables + 800 * (360 + 200 + 2) + 800 * (400 + 2) + attention + 42 * 201


@pytest.fixture
def file(tmp_path):
    lines = ["unseen 9 9 9 9", "in 1 2 3 4", "he at@home 1 2 3 4", "naïve -0.5 1e-3 0 7 ", ". . 5 5 5 5"]
    (tmp_path / "vectors.txt").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "vectors.txt"


def test_words_start_from_their_vectors(file):
    plain, model = made(), made(vectors=str(file))
    expected = plain.words.weight.detach().clone()
    expected[3], expected[6] = torch.tensor([1.0, 2, 3, 4]), torch.tensor([-0.5, 1e-3, 0, 7])
    assert torch.equal(model.words.weight, expected)
    assert model.words.weight.requires_grad
    assert torch.equal(model.tags.weight, plain.tags.weight)
    assert "words.weight" in drawn(plain)
    assert drawn(model) == [name for name in drawn(plain) if name != "words.weight"]


def said(info=INFO, **options) -> str:
    with pytest.raises(UserError) as error:
        made(info, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_vectors_that_cannot_be_used_are_said(file):
    assert "no vector of 3 numbers for any word of the data" in said(width=3, vectors=str(file))
    assert "looked in" in said(vectors=f"{file}.none")
    assert "model.vectors" in said(vectors=f"{file}.none")
    file.write_bytes(b"in 1 2 x 4\n")
    assert "vectors.txt, see model.vectors, cannot be read" in said(vectors=str(file))
    file.write_bytes(b"\xff\xfe\x00" * 100)
    assert "no vector of 4 numbers" in said(vectors=str(file))
    assert "set model.vectors=null" in said(Info("classification", (5, 6), 3, vocabulary=9), vectors=str(file))


@pytest.mark.parametrize("shape", [(6,), (4, 6), (5,), (5, 5, 5)])
def test_other_inputs_are_refused(shape):
    assert f"has inputs of shape {shape}; set data=tacred and data.inputs=all" in said(Info("classification", shape, 3, vocabulary=9))


def test_all_words_must_be_known():
    assert said(vocabulary=8) == "the data has 9 token ids, the model knows 8: set model.vocabulary=9"
