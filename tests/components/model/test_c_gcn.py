"""c_gcn: its tree against one pruned word by word; the equations, word by word; padding changes nothing; the number of weights; what is wrong is said."""

import random

import pytest
import torch

from runner import UserError
from runner.components._learned import drawn
from runner.components._words import Words
from runner.components.model.c_gcn import build
from runner.core.data import Info

WORDS = ("", "", ".", "in", "Ohio", "he", "naïve", "SUBJ-PERSON", "x")
INFO = Words("classification", (6, 6), 3, vocabulary=9, words=WORDS)
X = torch.tensor([  # places: 6 within a name, 5 before it, 7 after it
    [[5, 2, 8, 1, 0, 0], [3, 4, 2, 1, 0, 0], [2, 3, 1, 4, 0, 0], [6, 7, 8, 9, 0, 0], [4, 5, 6, 7, 0, 0], [2, 0, 2, 3, 0, 0]],
    [[7, 3, 4, 6, 2, 8], [2, 2, 3, 4, 1, 3], [1, 2, 2, 3, 4, 4], [5, 6, 6, 7, 8, 9], [6, 7, 8, 9, 10, 11], [2, 4, 2, 0, 4, 5]],
    [[2, 0, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
])  # fmt: skip
COUNTS = (4, 6, 1)


def made(info=INFO, seed=0, **options):
    torch.manual_seed(seed)
    return build(**{"vocabulary": 9, "tags": 5, "entities": 5, "width": 4, "features": 2, "units": 12, **options})(info, None)


def lively(**options):
    """All weights are drawn from a normal distribution, so that each of them matters."""
    model = made(**options).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return model.requires_grad_(False)


def pruned(heads, subj, obj, prune):
    """The words that are kept and the pairs that are joined, found by walking up the tree from each word. Heads count from 1, 0 is the root."""

    def up(k):
        return [k, *up(heads[k] - 1)] if heads[k] else [k]

    if prune is None:
        pairs = {frozenset((k, head - 1)) for k, head in enumerate(heads) if head}
        return {k for pair in pairs for k in pair}, pairs
    lines = [up(k) for k in (*subj, *obj)]
    lowest = next(k for k in lines[0] if all(k in line for line in lines))
    path = {k for line in lines for k in line[: line.index(lowest) + 1]}
    kept = {k for k in range(len(heads)) if any(j in path for j in up(k)[: prune + 1])}
    return kept, {frozenset((k, heads[k] - 1)) for k in kept if k != lowest}


def found(model, heads, subj, obj, length=None):
    """The same from the model; checks that neighbours are mutual."""
    length, at = length or len(heads), lambda rows, length: torch.tensor([[k in rows for k in range(length)]])
    near, kept = model.tree(torch.tensor([[*heads, *[0] * (length - len(heads))]]), at(subj, length), at(obj, length))
    assert torch.equal(near, near.mT)
    assert ((near == 0) | (near == 1)).all()
    return set(kept[0].nonzero()[:, 0].tolist()), {frozenset(pair) for pair in near[0].nonzero().tolist()}


@pytest.mark.parametrize(
    ("prune", "kept"), [(0, {2, 3, 5}), (1, {2, 3, 5, 1, 4, 6}), (2, {2, 3, 5, 1, 4, 6, 0}), (9, {2, 3, 5, 1, 4, 6, 0}), (None, set(range(9)))]
)
def test_a_tree_that_is_pruned_by_hand(prune, kept):
    #  8 - 7 - 3 - 2 - 1 - 0    8 is the root; the subject is 2, the object 5, both hang on 3, which hangs on 7
    #          3 - 5 - 6
    #          3 - 4
    heads = [2, 3, 4, 8, 4, 4, 6, 9, 0]
    for length in (9, 12):
        words, pairs = found(made(prune=prune), heads, [2], [5], length)
        assert words == kept
        assert pairs == {frozenset((k, heads[k] - 1)) for k in kept if heads[k] and heads[k] - 1 in kept}


@pytest.mark.parametrize("prune", [0, 1, 2, None])
def test_pruning_against_walks_up_the_tree(prune):
    draw, model = random.Random(prune), made(prune=prune)
    shapes = set()
    for _ in range(150):
        count = draw.randint(2, 14)
        order = draw.sample(range(count), count)  # each word hangs on one that came before it
        reach = draw.choice([1, 2, count])
        heads = [0] * count
        for k in range(1, count):
            heads[order[k]] = order[draw.randint(max(0, k - reach), k - 1)] + 1
        names = []
        for _ in range(2):  # they may overlap, and one may stand above the other
            first = draw.randrange(count)
            names.append(range(first, min(count, first + draw.randint(1, 3))))
        expected = pruned(heads, *names, prune)
        assert found(model, heads, *names, draw.randint(count, count + 3)) == expected
        shapes.add(len(expected[0]) / count)
    assert prune is None or len(shapes) > 20


def states(layer, inputs, suffix):
    """Of a direction of the LSTM, one word at a time."""
    w, u, a, b = (getattr(layer, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h = c = torch.zeros(layer.hidden_size)
    found = []
    for x in inputs:
        i, f, g, o = (w @ x + a + u @ h + b).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        found.append(h)
    return found


@pytest.mark.parametrize(("prune", "depth"), [(0, 1), (1, 2), (None, 2)])
def test_the_equations_word_by_word(prune, depth):
    model, joined = lively(prune=prune, depth=depth), []
    for sample, count, z in zip(X, COUNTS, model(X.float()), strict=True):
        inputs = [torch.cat([table.weight[k] for table, k in zip((model.words, model.tags, model.entities), sample[:3, t], strict=True)]) for t in range(count)]
        ahead, back = states(model.lstm, inputs, ""), states(model.lstm, inputs[::-1], "_reverse")[::-1]
        h = [torch.cat(pair) for pair in zip(ahead, back, strict=True)]
        names = [[t for t in range(count) if sample[row, t] == 6] for row in (3, 4)]
        kept, pairs = pruned(sample[5, :count].tolist(), *names, prune)
        for layer in model.convolutions:
            near = [[j for j in range(count) if frozenset((t, j)) in pairs and j != t] for t in range(count)]
            h = [(layer.weight @ (h[t] + sum(h[j] for j in near[t])) + 2 * layer.bias).relu() / (1 + len(near[t])) for t in range(count)]
        joined.append(len(pairs))
        most = lambda rows, h=h: torch.stack([h[t] for t in rows]).amax(0)
        v = torch.cat([most(kept) if kept else torch.zeros(12), *map(most, names)])
        for layer in model.mlp:
            v = (layer[0].weight @ v + layer[0].bias).relu()
        assert torch.allclose(z, model.out.weight @ v + model.out.bias, atol=1e-5)
    assert (model(X)[0] - model(X)[1]).abs().max() > 0.05
    assert joined == {0: [2, 2, 0], 1: [3, 2, 0], None: [3, 5, 0]}[prune]


def test_padding_changes_nothing():
    model = lively()
    junk = torch.where(X[:, :1] == 0, torch.tensor([0, 3, 4, 6, 6, 0])[:, None], X)
    assert not torch.equal(junk, X)
    assert torch.allclose(model(junk), model(X), atol=1e-6)
    assert torch.allclose(model(X[:1]), model(X)[:1], atol=1e-6)
    assert torch.allclose(model(X.flip(0)), model(X).flip(0), atol=1e-6)
    short = X[:1, :, :4].clone()
    short[:, 3:5] -= 2  # places are told from the length
    assert torch.allclose(model(short), model(X)[:1], atol=1e-6)
    assert not torch.allclose(model(X[:1] * (torch.arange(6) < 3)), model(X)[:1], atol=1e-3)


def test_the_tree_counts_and_what_is_cut_off_does_not():
    model, other = lively(prune=0), X.clone()
    other[0, 5, :4] = torch.tensor([0, 1, 1, 3])
    assert not torch.allclose(model(other)[0], model(X)[0], atol=1e-3)
    off = X[:1].clone()
    off[:, 3:5] = 5  # names that are cut off with the end of the sentence
    assert model(off).isfinite().all()
    own = model.out(model.mlp(torch.zeros(36)))
    assert torch.allclose(model(off)[0], own)


def test_dropout_is_for_training_and_all_weights_are_trained():
    model = lively()
    evaluated = model(X)
    assert torch.equal(model(X), evaluated)
    assert not torch.allclose(model.train()(X), evaluated, atol=1e-3)
    model.drop.p = 0.0
    assert torch.allclose(model(X), evaluated, atol=1e-6)
    model.requires_grad_(True)(X).square().sum().backward()
    assert not [name for name, p in model.named_parameters() if not p.grad.isfinite().all() or not p.grad.any()]


def test_what_is_dropped():
    model, shares = made(units=50, width=40, dropout=0.25), []
    model.lstm.register_forward_pre_hook(lambda layer, given: shares.append((given[0].data == 0).double().mean().item()))
    model(X)
    model.eval()(X)
    assert shares == [pytest.approx(0.25, abs=0.1), 0]
    sizes = []
    model.convolutions[0].register_forward_pre_hook(lambda layer, given: sizes.append((given[0][1] == 0).double().mean().item()))
    model(X)
    model.train()(X)
    assert sizes[1] == 0
    assert sizes[3] == pytest.approx(0.25, abs=0.1)  # the states themselves; those of neighbours are sums


def test_weights_of_the_paper():
    with torch.device("meta"):
        model = build(vocabulary=20000)(Info("classification", (6, 100), 42, vocabulary=20000), None)
    tables = 20000 * 300 + (47 + 15) * 30
    lstm = 2 * 800 * (360 + 200 + 2)
    assert sum(p.numel() for p in model.parameters()) == tables + lstm + 200 * 401 + 200 * 201 + 200 * 601 + 200 * 201 + 42 * 201


def test_words_start_from_their_vectors(tmp_path):
    (tmp_path / "vectors.txt").write_text("in 1 2 3 4\nunseen 9 9 9 9\n")
    plain, model = made(), made(vectors=str(tmp_path / "vectors.txt"))
    expected = plain.words.weight.detach().clone()
    assert (expected[0] == 0).all()
    expected[3] = torch.tensor([1.0, 2, 3, 4])
    assert torch.equal(model.words.weight, expected)
    assert drawn(model) == [name for name in drawn(plain) if name != "words.weight"]


def said(info=INFO, **options) -> str:
    with pytest.raises(UserError) as error:
        made(info, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("shape", [(6,), (5, 6), (6, 6, 6)])
def test_other_inputs_are_refused(shape):
    assert f"has inputs of shape {shape}; set data=tacred and data.inputs=tree" in said(Info("classification", shape, 3, vocabulary=9))


def test_all_words_must_be_known():
    assert said(vocabulary=8) == "the data has 9 token ids, the model knows 8: set model.vocabulary=9"
