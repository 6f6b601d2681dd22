"""What `bench_kernels.py` times of sparse weights: their update, their linear layers, their packing; sizes, and what one would write in torch."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch.sparse._semi_structured_conversions import sparse_semi_structured_from_dense_cutlass

from runner import kernels as K

LAYERS = {  # samples, inputs, outputs
    "cuda": [(8192, 768, 3072), (8192, 4096, 4096), (16, 4096, 4096)],
    "cpu": [(32, 256, 256), (256, 1024, 1024)],
    "dry": [(4, 64, 32)],
}
DENSITY, RANK = 0.03, 128


def torchao() -> dict[str, Callable]:
    try:
        from torchao.sparsity.training.autograd import semi_structured_sparsify
    except ImportError:
        return {}
    return {"semi_structured": lambda w, mask: semi_structured_sparsify(w * mask)}


def drop_grow(w, mask, scores):
    """Which of equal ones go and come is left to topk."""
    ones = int(mask.sum())
    k = int(0.3 * ones)
    kept = torch.zeros_like(mask).view(-1)
    kept[w.abs().masked_fill(~mask, -1).view(-1).topk(ones - k, sorted=False).indices] = True
    grown = scores.abs().view(-1).masked_fill(kept, -1).topk(k, sorted=False).indices
    stays = kept.view(w.shape) & mask
    w.mul_(stays)
    mask.copy_(kept.index_fill_(0, grown, True).view(w.shape))
    return mask & ~stays


def sparse_low_rank(x, b, a, values, indices):
    weight = b @ (a * 0.5)
    return F.linear(x, weight.flatten().scatter_add(0, indices, values).view(weight.shape))


def layers(case: Callable, mode: str, dtype: torch.dtype, device: str) -> Iterator:
    size, random = dtype.itemsize, lambda *shape: torch.randn(shape, device=device, dtype=dtype).requires_grad_()
    for shape in LAYERS[mode]:
        n, d, out = shape
        product, ends, rank = 2 * n * d * out, n * (d + out) * size, min(RANK, d // 4)
        make = lambda n=n, d=d, out=out: (random(n, d), random(out, d), torch.rand(out, d, device=device) < 0.1)
        peers = {"eager": lambda x, w, mask: F.linear(x, w * mask), "dense": lambda x, w, mask: F.linear(x, w)}
        whole = ends + out * d * (size + 1)
        yield case("masked_linear", shape, dtype, make, K.masked_linear, peers, whole, 2 * whole, flops=(product, 2 * product))

        def thin(n=n, d=d, out=out, rank=rank):
            places = torch.randperm(out * d, device=device)[: int(DENSITY * out * d)].sort().values
            return random(n, d), random(out, rank), random(rank, d), random(len(places)), places

        ours = lambda *inputs: K.sparse_low_rank_linear(*inputs, scale=0.5)
        kept = ends + (rank * (d + out) + int(DENSITY * out * d)) * size + 8 * int(DENSITY * out * d)
        yield case("sparse_low_rank", shape, dtype, thin, ours, {"eager": sparse_low_rank}, kept, 2 * kept, flops=(product, 2 * product))


def cases(case: Callable, mode: str, dtype: torch.dtype, device: str) -> Iterator:
    yield from layers(case, mode, dtype, device)
    for n in {"cuda": [2**20, 2**24, 2**27], "cpu": [2**14, 2**20], "dry": [2**11]}[mode]:
        shape, size = (n // 64, 64), n * dtype.itemsize
        w = lambda shape=shape: torch.randn(shape, device=device, dtype=dtype)
        three = lambda w=w: (w(), w() > 1.28, w())
        ours = lambda *inputs: K.drop_grow_(*inputs, 0.3)
        yield case("drop_grow", shape, dtype, three, ours, {"eager": drop_grow}, 3 * size + 3 * n, compiled=False)
        one, group = ((1, 2), 8) if dtype == torch.float32 else ((2, 4), 16)
        pair = lambda w=w, one=one: (lambda x: (x, K.nm_mask(x, *one)))(w())
        torchs = {"eager": lambda w, mask: sparse_semi_structured_from_dense_cutlass(w * mask)}
        yield case("semi_structured", shape, dtype, pair, K.semi_structured_pack, torchs, size + n + size // 2 + 2 * n // group, compiled=False)
