"""The backward kernels that the whole softmax family shares: each Jacobian is diag(s) - s s^T / total for some weights s of y."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .exponential_triton import exp


@triton.jit
def _weights(y, alpha, KIND: tl.constexpr):
    if KIND == "log_softmax":
        return exp(y)
    elif KIND == "sparsemax":
        return tl.where(y > 0, 1.0, y)  # NaN stays
    elif KIND == "entmax15":
        return tl.sqrt(y)
    elif KIND == "entmax":
        return tl.where(y == 0, 0.0, tl.exp2((2 - alpha) * tl.log2(tl.where(y == 0, 1.0, y))))
    else:
        return y


@triton.jit
def _load(y, grad, y_at, grad_at, inside, alpha, KIND: tl.constexpr):
    """Weights, gradient, and the two summands of the row's reductions."""
    y = tl.load(y + y_at, inside, other=float("-inf") if KIND == "log_softmax" else 0.0).to(tl.float32)
    g = tl.load(grad + grad_at, inside, other=0.0).to(tl.float32)
    s = _weights(y, alpha, KIND)
    if KIND == "log_softmax":
        g = tl.where(y == float("-inf"), 0.0, g)
        return s, g, g, s
    return s, g, s * g, s


@triton.jit
def _finish(s, g, dot, total, scale, KIND: tl.constexpr):
    if KIND == "log_softmax":
        return (g - s * dot) * scale
    elif KIND == "sparsemax" or KIND == "entmax15" or KIND == "entmax":
        return s * (g - dot / tl.where(total > 0, total, 1.0)) * scale
    else:
        return s * (g - dot) * scale


@triton.jit
def _backward_rows(y, grad, out, rows, cols, y_stride, grad_stride, scale, alpha, KIND: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s, g, dot, total = _load(y, grad, row * y_stride + col, row * grad_stride + col, inside, alpha, KIND)
    dot = tl.sum(dot, 1)[:, None]
    total = tl.sum(total, 1)[:, None]
    tl.store(out + row * cols + col, _finish(s, g, dot, total, scale, KIND).to(out.dtype.element_ty), inside)


@triton.jit
def _backward_wide(
    y, grad, out, part, cols, y_stride, grad_stride, scale, alpha, span,
    KIND: tl.constexpr, READ: tl.constexpr, WRITE: tl.constexpr, SPLITS: tl.constexpr, CHUNK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    begin = tl.program_id(1) * span
    end = tl.minimum(begin + span, cols)
    splits = tl.num_programs(1)
    if READ:
        dot = tl.zeros([CHUNK // GROUP], tl.float32)
        total = tl.zeros([CHUNK // GROUP], tl.float32)
        for start in tl.range(begin, end, CHUNK, num_stages=4):
            col = start + tl.arange(0, CHUNK)
            s, g, d, t = _load(y, grad, row * y_stride + col, row * grad_stride + col, col < end, alpha, KIND)
            dot += tl.sum(d.reshape(CHUNK // GROUP, GROUP), 1)
            total += tl.sum(t.reshape(CHUNK // GROUP, GROUP), 1)
        dot_sum = tl.sum(dot)
        total_sum = tl.sum(total)
        if not WRITE:
            at = part + (row * splits + tl.program_id(1)) * 2
            tl.store(at, dot_sum)
            tl.store(at + 1, total_sum)
    else:
        each = tl.arange(0, SPLITS)
        at = part + (row * splits + each) * 2
        dot_sum = tl.sum(tl.load(at, each < splits, other=0.0))
        total_sum = tl.sum(tl.load(at + 1, each < splits, other=0.0))
    if WRITE:
        last = begin + tl.cdiv(end - begin, CHUNK) * CHUNK - CHUNK
        for back in tl.range(0, end - begin, CHUNK, num_stages=4):  # from where the first read ended, which the cache still holds
            col = last - back + tl.arange(0, CHUNK)
            s, g, d, t = _load(y, grad, row * y_stride + col, row * grad_stride + col, col < end, alpha, KIND)
            tl.store(out + row * cols + col, _finish(s, g, dot_sum, total_sum, scale, KIND).to(out.dtype.element_ty), col < end)


def backward(kind: str, y: Tensor, grad: Tensor, scale: float, alpha: float) -> Tensor:
    """Gradient of the scores from the output `y` and its gradient, times `scale`."""
    out = torch.empty(y.shape, dtype=y.dtype, device=y.device)
    if not y.numel():
        return out
    y, grad = layout.dense(y), layout.dense(grad)
    rows, cols = y.shape
    shared = (cols, y.stride(0), grad.stride(0), scale, alpha)
    if programs := layout.cluster(cols):
        height, width, warps = layout.tile(cols)
        options = {"HEIGHT": height, "WIDTH": width, "num_warps": max(warps // programs, 1), "num_ctas": programs}
        _backward_rows[(triton.cdiv(rows, height),)](y, grad, out, rows, *shared, KIND=kind, **options)
        count(f"{kind}_backward", "triton", "rows" if programs == 1 else "cluster")
        return out
    chunk = layout.chunk(y, grad)
    splits, span = layout.spans(rows, cols, chunk)
    part = torch.empty(rows, splits, 2, dtype=torch.float32, device=y.device)
    constants = {"KIND": kind, "SPLITS": layout.power_of_two(splits), "CHUNK": chunk, "GROUP": layout.group(y, grad), "num_warps": layout.WARPS}
    for read, write in [(True, True)] if splits == 1 else [(True, False), (False, True)]:
        _backward_wide[(rows, splits)](y, grad, out, part, *shared, span, READ=read, WRITE=write, **constants)
    count(f"{kind}_backward", "triton", "loop" if splits == 1 else "split")
    return out
