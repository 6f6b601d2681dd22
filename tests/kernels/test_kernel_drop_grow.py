"""Dropping and growing connections: against enumeration, the definition and each other. Magnitude masks: of a layer and of the whole network."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.kernels import dispatch, drop_grow_, drop_grow_triton, topk_mask
from runner.kernels.drop_grow import fused_drop_grow_

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(params=["reference", "triton"])
def backend(request):
    with dispatch.backend(request.param):
        yield request.param


def by_hand(weights, masks, scores, fraction):
    """Masks and weights after the update, layers competing, by sorting lists."""
    w, m, s = ([v for x in tensors for v in x.flatten().tolist()] for tensors in (weights, masks, scores))
    active = [i for i, on in enumerate(m) if on]
    k = int(fraction * len(active))
    kept = set(sorted(active, key=lambda i: -abs(w[i]))[: len(active) - k])
    kept |= set(sorted((i for i in range(len(w)) if i not in kept), key=lambda i: -abs(s[i]))[:k])
    return [i in kept for i in range(len(w))], [v if i in kept and m[i] else 0.0 for i, v in enumerate(w)]


def flat(tensors):
    return [v for x in tensors for v in x.flatten().tolist()]


def network(device):
    """Layers with distinct values, with ties, without entries, dense, empty, and over several blocks; masks of several dtypes."""
    weights = [torch.randn(50, 30), torch.randint(-2, 3, (30, 70)), torch.empty(0, 3), torch.randn(9, 3, 3, 3), torch.randn(4500)]
    masks = [(torch.rand(w.shape) < share) for w, share in zip(weights, (0.1, 0.5, 1, 1, 0), strict=True)]
    scores = [torch.randint(-2, 3, w.shape) if i else torch.randn(w.shape) for i, w in enumerate(weights)]
    kinds = [torch.float32, torch.uint8, torch.bool, torch.bool, torch.int64]
    return [w.float().to(device) for w in weights], [m.to(device, k) for m, k in zip(masks, kinds, strict=True)], [s.float().to(device) for s in scores]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("fraction", [0, 0.3, 1])
def test_against_sorting(together, fraction, backend, device):
    weights, masks, scores = network(device)
    whole = [(weights, masks, scores)] if together else [([w], [m], [s]) for w, m, s in zip(weights, masks, scores, strict=True)]
    expected = [by_hand(*part, fraction) for part in whole]
    old = [m.bool() for m in masks]
    kinds = [m.dtype for m in masks]
    new = drop_grow_(weights, masks, scores, fraction, together=together)
    assert dispatch.used() == {("drop_grow", backend, "torch" if backend == "reference" else "histogram"): 1}
    assert flat(masks) == [on for mask, _ in expected for on in mask]
    assert flat(weights) == [v for _, values in expected for v in values]
    assert [m.dtype for m in masks] == kinds
    for n, m, o in zip(new, masks, old, strict=True):
        assert torch.equal(n, m.bool() & ~o)


@pytest.mark.parametrize("dtype", DTYPES)
def test_parity_over_dtypes(dtype, device):
    """Half precision has more ties and fewer digits; scores may have another dtype than weights."""
    weights, masks, scores = network(device)
    weights, results = [w.to(dtype) for w in weights], []
    scores[0] = scores[0].to(dtype)
    for backend in ("reference", "triton"):
        with dispatch.backend(backend):
            w, m = ([x.clone() for x in tensors] for tensors in (weights, masks))
            results.append([*drop_grow_(w, m, scores, 0.4), *w, *m])
    for x, y in zip(*results, strict=True):
        assert x.dtype == y.dtype
        assert torch.equal(x, y)


@pytest.mark.parametrize("kind", [torch.bool, torch.int8, torch.uint8, torch.int64, torch.float64, *DTYPES])
def test_masks_of_any_type(kind, backend, device):
    w, mask = torch.tensor([1.0, 2.0, 3.0, 0.0], device=device), torch.tensor([1, 1, 1, 0], device=device).to(kind)
    drop_grow_(w, mask, torch.tensor([0.0, 0.0, 0.0, 1.0], device=device), 0.4)
    assert (mask.dtype, mask.tolist(), w.tolist()) == (kind, [0, 1, 1, 1], [0, 2, 3, 0])


def test_equal_weights_go_by_their_place(backend, device, monkeypatch):
    monkeypatch.setattr(drop_grow_triton, "BLOCK", 4)  # so that ties cross blocks
    mask, w = torch.arange(10, device=device) < 6, torch.ones(10, device=device)
    drop_grow_(w, mask, torch.tensor([0.0] * 6 + [1.0] * 4, device=device), 0.4)
    assert mask.nonzero().flatten().tolist() == [0, 1, 2, 3, 6, 7]
    assert w.tolist() == [1.0] * 4 + [0.0] * 6


def test_special_values(backend, device):
    """NaN counts as largest; a weight of zero is dropped before others but no masked one stays for it; the dropped may come back with its weight."""
    mask = torch.tensor([0, 1, 0, 1, 1], dtype=torch.bool, device=device)
    w = torch.tensor([0.0, 0.0, torch.nan, -1.0, torch.nan], device=device)
    drop_grow_(w, mask, torch.tensor([0.5, 0.0, 0.1, 0.0, 0.0], device=device), 0.34)
    assert mask.tolist() == [True, False, False, True, True]
    assert w.nan_to_num(9).tolist() == [0, 0, 0, -1, 9]
    drop_grow_(w, mask, torch.tensor([0.0, 0.0, torch.nan, torch.inf, 0.0], device=device), 0.67)
    assert mask.tolist() == [False, False, True, True, True]
    assert w.nan_to_num(9).tolist() == [0, 0, 0, -1, 9]


def test_layouts_and_double_precision(backend, device):
    w, m, s = torch.randn(6, 4, 3, 3, device=device), torch.rand(6, 4, 3, 3, device=device) < 0.5, torch.randn(6, 4, 3, 3, device=device)
    expected = by_hand([w], [m], [s], 0.5)
    last = [x.to(memory_format=torch.channels_last) for x in (w, m, s)]
    crossed = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in (w, m, s)]
    for a, b, c in (last, crossed):
        new = drop_grow_(a, b, c, 0.5)
        assert (flat([b]), flat([a])) == expected
        assert torch.equal(new, b & ~m)
    if backend == "reference":
        w, m = torch.tensor([1.0, 1.0 + 1e-12, 0.0], dtype=torch.float64), torch.tensor([1, 1, 0])
        drop_grow_(w, m, torch.tensor([0.0, 0.0, 1.0]), 0.5)
        assert m.tolist() == [0, 1, 1]


def test_bad_requests(backend, device):
    w, m = torch.randn(4, device=device), torch.ones(4, device=device)
    with pytest.raises(ValueError, match=r"fraction must lie in \[0, 1\]"):
        drop_grow_(w, m, w, 1.5)
    with pytest.raises(ValueError, match="shapes differ"):
        drop_grow_(w, m[:3], w, 0.5)
    with pytest.raises(ValueError, match="zip"):
        drop_grow_([w], [m, m], [w], 0.5)
    assert drop_grow_([], [], [], 0.5) == []
    with dispatch.backend("triton"), pytest.raises(RuntimeError, match="float64"):
        drop_grow_(w, m, w.double(), 0.5)


def test_weights_that_require_gradients_are_changed_in_place(backend, device):
    w = torch.nn.Parameter(torch.arange(1.0, 5.0, device=device))
    at, m = w.data_ptr(), torch.tensor([1.0, 1.0, 0.0, 0.0], device=device)
    new = drop_grow_(w, m, torch.tensor([0.0, 0.0, 0.0, 1.0], device=device), 0.5)
    assert (w.data_ptr(), w.tolist(), m.tolist(), new.tolist()) == (at, [0, 2, 0, 0], [0, 1, 0, 1], [False, False, False, True])


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.integers(-3, 3)), min_size=1, max_size=40), st.integers(0, 10))
def test_properties(entries, tenths):
    """The definition, an unchanged number, and that neither signs nor scales of weights and scores matter."""
    w, m, s = (torch.tensor(column, dtype=torch.float32, device=DEVICE) for column in zip(*entries, strict=True))
    expected = by_hand([w], [m], [s], tenths / 10)
    with dispatch.backend("triton"):
        a, b = w.clone(), m.clone()
        drop_grow_(a, b, s, tenths / 10)
        assert (b.bool().tolist(), a.tolist()) == expected
    assert b.sum() == m.sum()
    c = m.clone()
    drop_grow_(-w * 4, c, s / 8, tenths / 10)
    assert torch.equal(b, c)


# magnitude masks


@pytest.mark.parametrize("density", [0.01, 0.5, 0.9])
def test_magnitude_masks_of_a_layer_and_of_the_network(density, backend, device):
    """A list is one competition over all layers, whatever their sizes; a layer by itself is its own."""
    layers = [scale * torch.randn(shape, device=device) for scale, shape in ((1.0, (40, 30)), (0.1, (25, 8, 3, 3)), (3.0, (7,)))]
    together = topk_mask(layers, density=density)
    values = torch.cat([w.flatten() for w in layers]).abs()
    best = values.topk(round(density * values.numel())).indices.sort().values
    assert torch.equal(torch.cat([m.flatten() for m in together]).nonzero().flatten(), best)
    for w in layers:
        k = round(density * w.numel())
        alone = topk_mask(w, density=density)
        assert torch.equal(alone.flatten().nonzero().flatten(), w.abs().flatten().topk(k).indices.sort().values)


# torch's own checks


def test_opcheck_and_compile(device):
    weights, masks, scores = (tensors[:2] for tensors in network(device))
    torch.library.opcheck(fused_drop_grow_, (weights, masks, [torch.zeros_like(w, dtype=torch.bool) for w in weights], scores, 0.3, True))
    dispatch.reset()
    results = []
    for f in (drop_grow_, torch.compile(drop_grow_, fullgraph=True, backend="aot_eager")):
        for backend in ("reference", "triton"):
            with dispatch.backend(backend):
                w, m = ([x.clone() for x in tensors] for tensors in (weights, masks))
                results.append([*f(w, m, scores, 0.3), *w, *m])
    assert dispatch.used() == {("drop_grow", "reference", "torch"): 1, ("drop_grow", "triton", "histogram"): 2}
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))
