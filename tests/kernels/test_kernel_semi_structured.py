"""Packing of 2:4 weights against torch's own conversion, and back. N:M masks of every N and M, along every dimension."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.sparse import SparseSemiStructuredTensorCUTLASS
from torch.sparse._semi_structured_conversions import sparse_semi_structured_from_dense_cutlass, sparse_semi_structured_to_dense_cutlass

from runner.kernels import dispatch, nm_mask, nm_prune, semi_structured_pack, semi_structured_tensor
from runner.kernels.semi_structured import LEAST, _checked, fused_semi_structured

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FLOATS = [torch.float16, torch.bfloat16, torch.float32]
CASES = [(dtype, backend) for dtype in FLOATS for backend in ("reference", "triton")] + [(torch.int8, "reference")]


def draw(rows, cols, dtype, device):
    """A weight without zeros, and its mask."""
    w = torch.randint(1, 100, (rows, cols), device=device) * (2 * torch.randint(2, (rows, cols), device=device) - 1)
    return w.to(dtype), nm_mask(w.float(), *((1, 2) if dtype == torch.float32 else (2, 4)))


@pytest.fixture(params=["reference", "triton"])
def backend(request):
    with dispatch.backend(request.param):
        yield request.param


@pytest.mark.parametrize(("dtype", "choice"), CASES)
@pytest.mark.parametrize("times", [(1, 1), (3, 1), (2, 5)])
def test_bit_for_bit_what_torch_converts(dtype, choice, times, device):
    rows, cols = (n * k for n, k in zip(LEAST[dtype], times, strict=True))
    w, mask = draw(rows, cols, dtype, device)
    with dispatch.backend(choice):
        values, meta = semi_structured_pack(w, mask)
    assert dispatch.used()["semi_structured", choice, "torch" if choice == "reference" else "groups"] == 1
    expected, words = sparse_semi_structured_from_dense_cutlass(w * mask)
    assert values.dtype == dtype
    assert meta.dtype == words.dtype
    assert torch.equal(values, expected)
    assert torch.equal(meta, words)
    assert torch.equal(sparse_semi_structured_to_dense_cutlass(values, meta), w * mask)


@pytest.mark.parametrize("dtype", FLOATS)
def test_kept_zeros_negative_zeros_and_nan(dtype, backend, device):
    """Torch sees which weights are not zero; here the mask says it, and a weight may be anything."""
    w = torch.zeros(32, 64, device=device)
    w[::3], w[1::5, ::4], w[2, 3] = 2.0, -0.0, torch.nan
    w = w.to(dtype)
    mask = nm_mask(w, *((1, 2) if dtype == torch.float32 else (2, 4)))
    values, meta = semi_structured_pack(w, mask)
    back = sparse_semi_structured_to_dense_cutlass(values, meta)
    assert torch.equal(back.nan_to_num(9), w.where(mask, 0).nan_to_num(9))
    _, places = semi_structured_pack(torch.ones_like(w), mask)
    assert torch.equal(places, meta)  # the metadata is the mask's alone


def test_every_pattern_of_a_group(backend, device):
    patterns = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]], dtype=torch.bool, device=device)
    mask = patterns[torch.arange(32 * 16, device=device) % 6].view(32, 64)
    w = torch.arange(1.0, 2049.0, device=device).view(32, 64).half()
    for got, expected in zip(semi_structured_pack(w, mask), sparse_semi_structured_from_dense_cutlass(w * mask), strict=True):
        assert torch.equal(got, expected)
    within = torch.cat((mask.new_zeros(1), mask.flatten()))[1:].view(mask.shape)  # bytes that no number of 32 bits begins with
    for got, expected in zip(semi_structured_pack(w, within), semi_structured_pack(w, mask), strict=True):
        assert torch.equal(got, expected)
    crossed = w.t().contiguous().t(), mask.t().contiguous().t()
    for got, expected in zip(semi_structured_pack(*crossed), semi_structured_pack(w, mask), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.filterwarnings("ignore:The PyTorch API of SparseSemiStructuredTensor")
def test_the_tensor_of_torch_holds_it(device):
    w, mask = draw(64, 128, torch.float16, device)
    packed = semi_structured_tensor(w.requires_grad_(), mask)
    assert packed.shape == w.shape
    if isinstance(packed, SparseSemiStructuredTensorCUTLASS):
        assert torch.equal(packed.to_dense(), w * mask)


@pytest.mark.filterwarnings("ignore:The PyTorch API of SparseSemiStructuredTensor")
@pytest.mark.skipif(DEVICE == "cpu", reason="sparse tensor cores multiply on a GPU of compute capability 8.0 or more alone")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_products_on_a_gpu(dtype):
    w, mask = draw(256, 512, dtype, DEVICE)
    x, packed = torch.randn(128, 512, device=DEVICE, dtype=dtype), semi_structured_tensor(w / 100, mask)
    torch.testing.assert_close(torch.nn.functional.linear(x, packed), torch.nn.functional.linear(x, w / 100 * mask), rtol=2e-2, atol=5e-2)
    if torch.cuda.get_device_capability()[0] == 8:
        theirs = SparseSemiStructuredTensorCUTLASS.from_dense(w / 100 * mask)
        assert torch.equal(packed.packed, theirs.packed)
        assert torch.equal(packed.meta, theirs.meta)


@pytest.mark.filterwarnings("ignore:The PyTorch API of SparseSemiStructuredTensor")
def test_what_cannot_be_packed_is_refused(backend, device):
    w, mask = draw(32, 64, torch.float16, device)
    for function in (semi_structured_pack, semi_structured_tensor):
        for bad, why in [
            ((w[:, :32], mask[:, :32]), "multiples of 32 x 64, not 32 x 32"),
            ((w[:20], mask[:20]), "multiples of 32 x 64, not 20 x 64"),
            ((w[:0], mask[:0]), "multiples of 32 x 64, not 0 x 64"),
            ((w.char(), mask), r"torch\.int8 is packed in multiples of 16 x 128"),
            ((w.double(), mask), r"torch\.float64 has no 2:4 layout"),
            ((w, mask.half()), "a boolean mask of its shape"),
            ((w, mask[:, :32]), "a boolean mask of its shape"),
            ((w[None], mask[None]), "two dimensions"),
        ]:
            with pytest.raises(ValueError, match=why):
                function(*bad)
    for bad, why in [
        ((w, torch.ones_like(mask)), r"2 of every 4 weights of a row: use nm_mask\(w, 2, 4\)"),
        ((w, nm_mask(w, 2, 4, dim=0)), "2 of every 4"),
        ((w, nm_mask(w, 1, 4)), "2 of every 4"),
        ((w.float(), mask), "1 of every 2"),
    ]:
        for function in (semi_structured_pack, semi_structured_tensor):  # also where torch packs, which would lose weights
            with pytest.raises(ValueError, match=why):
                function(*bad)
        with pytest.raises(ValueError, match=why):
            _checked(*bad)  # what stands before torch's own packing on other GPUs


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_properties(tall, wide, seed):
    """Packing is linear in the weight, and made dense again it is the masked weight."""
    torch.manual_seed(seed)
    w, mask = draw(32 * tall, 64 * wide, torch.float16, DEVICE)
    with dispatch.backend("triton"):
        values, meta = semi_structured_pack(w, mask)
        twice, same = semi_structured_pack(2 * w, mask)
    assert torch.equal(twice, 2 * values)
    assert torch.equal(same, meta)
    assert torch.equal(sparse_semi_structured_to_dense_cutlass(values, meta), w * mask)


# N:M masks


def largest(w, n, m, dim):
    """By a stable sort of every group."""
    groups = w.abs().movedim(dim, -1).unflatten(-1, (-1, m))
    best = groups.sort(dim=-1, descending=True, stable=True).indices[..., :n]
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, best, True).flatten(-2).movedim(-1, dim)


@pytest.mark.parametrize("dim", [0, 1])
def test_nm_masks_of_every_n_and_m(dim, device):
    """All 528 pairs up to 32, in the reference; with ties."""
    for m in range(1, 33):
        shape = [3, 3]
        shape[dim] = 2 * m
        w = torch.randint(-9, 10, shape, device=device).float()
        for n in range(1, m + 1):
            with dispatch.backend("reference"):
                assert torch.equal(nm_mask(w, n, m, dim), largest(w, n, m, dim)), (n, m)


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("m", [1, 2, 3, 4, 6, 7, 8, 12, 16, 17, 24, 31, 32])
def test_nm_kernels_of_many_n_and_m(dim, m, device):
    shape = [2, 3, 2]
    shape[dim] = 3 * m
    w = torch.randint(-9, 10, shape, device=device).float()
    for n in {1, (m + 1) // 2, m}:
        with dispatch.backend("triton"):
            pruned, mask = nm_prune(w, n, m, dim)
        assert torch.equal(mask, largest(w, n, m, dim))
        assert torch.equal(pruned, w * mask)
        assert (mask.movedim(dim, -1).unflatten(-1, (-1, m)).sum(-1) == n).all()


# torch's own checks


def test_opcheck_and_compile(device):
    w, mask = draw(32, 128, torch.float16, device)
    torch.library.opcheck(fused_semi_structured, (w, mask))
    torch.library.opcheck(fused_semi_structured, (w.float(), nm_mask(w.float(), 1, 2)))
    expected = semi_structured_pack(w, mask)
    for choice in ("reference", "triton"):
        with dispatch.backend(choice):
            got = torch.compile(semi_structured_pack, fullgraph=True, backend="aot_eager")(w, mask)
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
