"""ngrams: which n-grams are counted, and what they weigh."""

import torch

from runner.components.model.ngrams import build
from runner.core.data import Info

INFO = Info("classification", (5,), 2)


def test_words_and_whole_n_grams_are_counted():
    model = build(vocabulary=10, longest=3, buckets=10**6)(INFO, None)
    f = lambda *x: model.features(torch.tensor([x]))[0]
    found = f(3, 4, 3, 4, 0)
    assert found[:5].tolist() == [3, 4, 3, 4, 0]
    pairs, triples = found[5:9], found[9:]
    assert pairs[0] == pairs[2] != pairs[1]
    assert pairs[3] == 0  # the last is not whole
    assert len(set(triples.tolist())) == 3
    assert triples[2] == 0
    assert f(4, 3, 1, 1, 1)[5] == pairs[1]  # wherever it stands
    keys = {tuple(k.tolist()) for k in model.features(torch.cartesian_prod(torch.arange(1, 10), torch.arange(1, 10)))[:, 2:]}
    assert len(keys) == 81  # none share a bucket where there are enough


def test_logits_are_sums_of_weights_and_buckets_are_in_range():
    model = build(vocabulary=10, longest=2, buckets=3)(INFO, None)
    x = torch.randint(0, 10, (50, 5), generator=torch.Generator().manual_seed(0))
    torch.nn.init.normal_(model.weights.weight, generator=torch.Generator().manual_seed(1))
    features = model.features(x)
    assert features.max() < 13
    table = model.weights.weight.detach().clone()
    table[0] = 0
    assert torch.allclose(model(x.float()), table[features].sum(1) + model.bias, atol=1e-5)
    assert not build()(INFO, None)(x).any()
