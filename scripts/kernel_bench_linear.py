"""What `bench_kernels.py` times of losses that take the last layer's input and weight: sizes, arithmetic, and peers."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F

from runner import kernels as K

SIZES = {  # samples, width, classes
    "cuda": [(8192, 768, 50257), (8192, 2304, 256000), (8192, 4096, 128256), (2048, 4096, 128256)],
    "cpu": [(128, 64, 10), (256, 128, 1000), (1024, 256, 10000)],
    "dry": [(8, 16, 100)],
}


def composed(hidden, weight, target):
    return F.cross_entropy(F.linear(hidden, weight), target)


def composed_sample(hidden, weight, target, samples, expected):
    own = (hidden * weight[target]).sum(-1, keepdim=True)
    others = (hidden @ weight[samples].T - expected.log()).masked_fill(target[:, None] == samples, -torch.inf)
    return F.cross_entropy(torch.cat([own, others], 1), torch.zeros_like(target))


def composed_margin(hidden, weight, target):
    """ArcFace, without the continuation beyond pi."""
    cosine = F.normalize(hidden) @ F.normalize(weight).T
    own = (cosine.gather(1, target[:, None]).clamp(-1 + 1e-7, 1 - 1e-7).acos() + 0.5).cos()
    return F.cross_entropy(64 * cosine.scatter(1, target[:, None], own.to(cosine.dtype)), target)


def cut_cross_entropy() -> dict[str, Callable]:
    """Skipping tiles, as it does by default, and exact."""
    try:
        from cut_cross_entropy import linear_cross_entropy
    except ImportError:
        return {}
    return {"linear_cross_entropy": partial(linear_cross_entropy, filter_eps=None), "linear_cross_entropy_skip": linear_cross_entropy}


def liger() -> dict[str, Callable]:
    try:
        from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction as function
    except ImportError:
        return {}
    return {"linear_cross_entropy": lambda *inputs: function.apply(*inputs)[0]}


def cases(case: Callable, mode: str, dtype: torch.dtype, device: str) -> Iterator:
    """`flops` of the forward, and of a backward that makes the logits again."""
    for n, d, classes in SIZES[mode]:
        inputs, weights = n * d * dtype.itemsize, classes * d * dtype.itemsize
        product = 2 * n * d * classes

        def make(n=n, d=d, classes=classes):
            hidden, weight = (torch.randn(shape, device=device, dtype=dtype) * d**-0.25 for shape in [(n, d), (classes, d)])
            return hidden.requires_grad_(), weight.requires_grad_(), torch.randint(classes, (n,), device=device)

        traffic = inputs + weights + 8 * n
        for op, skip in (("linear_cross_entropy", False), ("linear_cross_entropy_skip", True)):
            ours = partial(K.linear_cross_entropy, reduction="mean", skip=skip)
            if mode != "cpu" or not skip:
                yield case(op, (n, d, classes), dtype, make, ours, {"eager": composed}, traffic, 2 * traffic, flops=(product, 3 * product))
        margin = partial(K.partial_fc, arc=0.5, reduction="mean")
        yield case("partial_fc", (n, d, classes), dtype, make, margin, {"eager": composed_margin}, traffic, 2 * traffic, flops=(product, 3 * product))
        m = min(8192, classes)
        sampled = lambda make=make, classes=classes, m=m: (*make(), *K.draw_classes(classes, m, device=device))
        traffic, product = 2 * inputs + m * d * dtype.itemsize + 12 * m, 2 * n * d * m
        mean = partial(K.sampled_softmax, reduction="mean")
        yield case("sampled_softmax", (n, d, m), dtype, sampled, mean, {"eager": composed_sample}, traffic, 2 * traffic, flops=(product, 3 * product))
