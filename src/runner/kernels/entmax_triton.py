"""Forward kernels of sparsemax, entmax-1.5 and entmax: no sort, the threshold is found by Newton's method.

With z = (alpha - 1)(x - max x), u = [z - tau]_+ and p = 1 / (alpha - 1), the threshold solves |u|_p = 1. For p >= 1 the norm is convex
and falls in tau, so that Newton climbs from tau = -1 without overshooting, and the product of residual and slope falls at least fourfold
a step: some 32 steps exhaust float32 at a million columns; normal logits take 2 to 13. Sparsemax stops when its support stays. Both it
and entmax-1.5 close with the exact solution on the support. For alpha > 2 ("steep") the largest y lies between 1/n and 1 and determines
tau = -y^(alpha - 1): it is bisected, geometrically. The search closes with the upper end: at the lower one a large alpha may bring tau
down to 0, and no entry would be above it.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count


@triton.jit
def _excess(z, tau):
    return tl.where(z <= tau, 0.0, z - tau)  # keeps NaN


@triton.jit
def _terms(z, tau, p, KIND: tl.constexpr):
    """The summands of |u|_p^p and of its slope."""
    u = _excess(z, tau)
    if KIND == "sparsemax":
        return u, tl.where(u > 0, 1.0, 0.0)
    elif KIND == "entmax15":
        return u * u, u
    else:
        safe = tl.where(u > 0, u, 1.0)
        power = tl.where(u == 0, 0.0, tl.exp2(p * tl.log2(safe)))
        return tl.where(u != u, u, power), power / safe


@triton.jit
def _middle(low, high, p):
    return -tl.exp2(0.5 * (tl.log2(low) + tl.log2(high)) / p)


@triton.jit
def _climb(tau, new):
    return tl.where(new <= tau, tau, new)  # keeps NaN


@triton.jit
def _advance(tau, low, high, total, slope, size, p, KIND: tl.constexpr):
    """The next threshold, the next bracket of the largest y, the support's size, and whether the search goes on."""
    slope = tl.maximum(slope, 1e-30)
    if KIND == "steep":
        y = tl.sqrt(low * high)
        low, high = tl.where(total < 1, y, low), tl.where(total < 1, high, y)
        return _middle(low, high, p), low, high, size, high - low > 1e-7 * high
    if KIND == "sparsemax":
        return _climb(tau, tau + (total - 1) / slope), low, high, slope, slope < size
    if KIND == "entmax15":
        norm = tl.sqrt(total)
        new = tau + (norm - 1) * norm / slope
    else:
        norm = tl.exp2(tl.log2(tl.maximum(total, 1e-30)) / p)
        new = tau + (norm - 1) * total / norm / slope
    new = _climb(tau, new)
    return new, low, high, size, (total - 1 > 1e-6) & (new != tau)


@triton.jit
def _close(tau, total, slope, size, KIND: tl.constexpr):
    """The threshold that solves the equation on the support: of sum (u - d) = 1, and of sum (u - d)^2 = 1, the root in d."""
    residual = total - 1
    if KIND == "sparsemax":
        return tau + residual / tl.maximum(size, 1.0)
    elif KIND == "entmax15":
        root = tl.sqrt(tl.maximum(slope * slope - size * residual, 0.0))
        return tau + residual / tl.maximum(slope + root, 1e-30)
    else:
        return tau


@triton.jit
def _value(z, tau, total, p, KIND: tl.constexpr):
    value, _slope = _terms(z, tau, p, KIND)
    if KIND == "sparsemax" or KIND == "entmax15":
        return value
    return value / tl.where(total == 0, 1.0, total)


@triton.jit
def project(z, cols, p, lowest, KIND: tl.constexpr, STEPS: tl.constexpr):
    """The mapping of rows z = (alpha - 1)(x - max x) that are held whole."""
    tau = tl.zeros_like(tl.max(z, 1)[:, None]) - 1.0
    high = -tau
    low = high * lowest
    if KIND == "steep":
        tau = _middle(low, high, p)
    size = high * (cols + 1.0)
    total = tl.zeros_like(high)
    slope = tl.zeros_like(high)
    step = 0
    moving = True
    while moving:
        powers, slopes = _terms(z, tau, p, KIND)
        total = tl.sum(powers, 1)[:, None]
        slope = tl.sum(slopes, 1)[:, None]
        new, low, high, size, open = _advance(tau, low, high, total, slope, size, p, KIND)
        tau = tl.where(open, new, tau)
        step += 1
        moving = (tl.max(tl.max(open.to(tl.int32), 1), 0) > 0) & (step < STEPS)
    if KIND == "entmax15":
        size = tl.sum(tl.where(z > tau, 1.0, 0.0), 1)[:, None]
    if KIND == "steep":
        tau = _middle(high, high, p)
        powers, slopes = _terms(z, tau, p, KIND)
        total = tl.sum(powers, 1)[:, None]
    tau = _close(tau, total, slope, size, KIND)
    return _value(z, tau, total, p, KIND)


@triton.jit
def _forward_rows(
    x, y, rows, cols, x_stride, scale, p, lowest,
    KIND: tl.constexpr, STEPS: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, ALPHAS: tl.constexpr = False,
):  # fmt: skip
    """If ALPHAS, `scale` points to an alpha for each row, and `p` is not read."""
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    if ALPHAS:
        scale = tl.load(scale + row, row < rows, other=2.0) - 1
        p = 1 / scale
    z = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    top = tl.max(z, 1)[:, None]
    z = (z - tl.where(top == float("-inf"), 0.0, top)) * scale
    tl.store(y + row * cols + col, project(z, cols, p, lowest, KIND, STEPS).to(y.dtype.element_ty), inside)


@triton.jit
def _alpha_rows(y, grad, alpha, out, slope, rows, cols, y_stride, grad_stride, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Gradient in the scores and in the alpha of each row."""
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    v = tl.load(y + row * y_stride + col, inside, other=0.0).to(tl.float32)
    g = tl.load(grad + row * grad_stride + col, inside, other=0.0).to(tl.float32)
    a = tl.load(alpha + row, row < rows, other=2.0)
    log_v = tl.log2(tl.where(v > 0, v, 1.0))
    s = tl.where(v > 0, tl.exp2((2 - a) * log_v), 0.0)
    total = tl.sum(s, 1)[:, None]
    share = s / tl.where(total > 0, total, 1.0)
    dot = tl.sum(share * g, 1)[:, None]
    tl.store(out + row * cols + col, (s * (g - dot)).to(out.dtype.element_ty), inside)
    # the slope in alpha without the large terms that cancel near 1, see _alpha_gradient
    log_v = log_v * 0.6931471805599453
    e = (1 - a) * log_v
    small = tl.minimum(e, 0.5)
    series = tl.zeros_like(v) + 1.0
    for n in tl.static_range(7):
        series = 1.0 + small / (9 - n) * series
    bend = tl.where(e < 0.5, v * small * small * 0.5 * series, s - v - v * e)
    rise = bend + v * e
    more = tl.sum(rise, 1)[:, None]
    curve = tl.sum(bend, 1)[:, None]
    mean = tl.sum(v * log_v, 1)[:, None]
    d = (v * curve - bend) / (a - 1) + rise * mean - v * log_v * more
    tl.store(slope + row, tl.sum(g * d, 1)[:, None] / ((a - 1) * (1 + more)), row < rows)


@triton.jit
def _sums(kept, found, top, scale, tau, p, KIND: tl.constexpr, CHUNK: tl.constexpr):
    powers = tl.zeros([CHUNK], tl.float32)
    slopes = tl.zeros([CHUNK], tl.float32)
    sizes = tl.zeros([CHUNK], tl.float32)
    for start in range(0, found, CHUNK):
        at = start + tl.arange(0, CHUNK)
        z = (tl.load(kept + at, at < found, other=float("-inf")) - top) * scale
        power, slope = _terms(z, tau, p, KIND)
        powers += power
        slopes += slope
        sizes += tl.where(z > tau, 1.0, 0.0)
    return tl.sum(powers), tl.sum(slopes), tl.sum(sizes)


@triton.jit
def _forward_wide(x, y, kept, rows, cols, x_stride, scale, p, lowest, KIND: tl.constexpr, STEPS: tl.constexpr, CHUNK: tl.constexpr):
    """One program a row: keep the few entries within reach of the running maximum, search among those, read the row again to write."""
    program = tl.program_id(0).to(tl.int64)
    programs = tl.num_programs(0).to(tl.int64)
    kept += program * cols
    source = x + program * x_stride
    target = y + program * cols
    for _row in range(tl.program_id(0), rows, tl.num_programs(0)):
        top = float("-inf")
        found = 0
        for start in tl.range(0, cols, CHUNK, num_stages=3):
            col = start + tl.arange(0, CHUNK)
            z = tl.load(source + col, col < cols, other=float("-inf")).to(tl.float32)
            top = tl.maximum(top, tl.max(z, 0))
            keep = tl.where((z - top) * scale <= -1, 0, 1)
            keep = tl.where(z == float("-inf"), 0, keep)
            tl.store(kept + found + tl.cumsum(keep, 0) - 1, z, keep != 0)
            found += tl.sum(keep, 0)
        top = tl.where(top == float("-inf"), 0.0, top)
        tl.debug_barrier()  # the kept entries are read by other threads than wrote them
        tau = -1.0
        high = 1.0
        low = high * lowest
        if KIND == "steep":
            tau = _middle(low, high, p)
        size = cols + 1.0
        total = 0.0
        slope = 0.0
        within = 0.0
        step = 0
        moving = True
        while moving:
            total, slope, within = _sums(kept, found, top, scale, tau, p, KIND, CHUNK)
            new, low, high, size, open = _advance(tau, low, high, total, slope, size, p, KIND)
            tau = tl.where(open, new, tau)
            step += 1
            moving = open & (step < STEPS)
        if KIND == "entmax15":
            size = within
        if KIND == "steep":
            tau = _middle(high, high, p)
            total, slope, within = _sums(kept, found, top, scale, tau, p, KIND, CHUNK)
        tau = _close(tau, total, slope, size, KIND)
        for start in tl.range(0, cols, CHUNK, num_stages=3):
            col = start + tl.arange(0, CHUNK)
            z = (tl.load(source + col, col < cols, other=float("-inf")).to(tl.float32) - top) * scale
            tl.store(target + col, _value(z, tau, total, p, KIND).to(y.dtype.element_ty), col < cols)
        source += programs * x_stride
        target += programs * cols
        tl.debug_barrier()  # the next row reuses the space


def forward(kind: str, x: Tensor, alpha: float) -> Tensor:
    """Along the last dimension of `x`."""
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not x.numel():
        return y
    x = layout.dense(x)
    rows, cols = x.shape
    shared = (rows, cols, x.stride(0), alpha - 1, 1 / (alpha - 1), 1 / cols)
    constants = {"KIND": "steep" if alpha > 2 else kind, "STEPS": 64}
    if cols <= layout.WIDEST:
        height, width, warps = layout.tile(cols)
        _forward_rows[(triton.cdiv(rows, height),)](x, y, *shared, **constants, HEIGHT=height, WIDTH=width, num_warps=warps)
        count(kind, "triton", "rows")
        return y
    programs = min(rows, layout.PROGRAMS)
    kept = torch.empty(programs, cols, dtype=torch.float32, device=x.device)
    _forward_wide[(programs,)](x, y, kept, *shared, **constants, CHUNK=layout.chunk(kept), num_warps=8)
    count(kind, "triton", "loop")
    return y


def forward_alphas(x: Tensor, alpha: Tensor) -> Tensor:
    """Along the last dimension of `x`, in float32, with an alpha for each row; always by bisection, which holds for every alpha above 1."""
    y = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    if x.numel():
        x, alpha = layout.dense(x), alpha.contiguous()
        rows, cols = x.shape
        height, width, warps = layout.tile(cols)
        constants = {"KIND": "steep", "STEPS": 64, "HEIGHT": height, "WIDTH": width, "ALPHAS": True, "num_warps": warps}
        _forward_rows[(triton.cdiv(rows, height),)](x, y, rows, cols, x.stride(0), alpha, 0.0, 1 / cols, **constants)
        count("entmax", "triton", "rows")
    return y


def backward_alphas(grad: Tensor, y: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients in the scores and in each row's alpha."""
    out, slope = torch.empty(y.shape, dtype=y.dtype, device=y.device), torch.zeros(y.shape[:-1], dtype=torch.float32, device=y.device)
    if y.numel():
        y, grad, alpha = layout.dense(y), layout.dense(grad), alpha.contiguous()
        rows, cols = y.shape
        height, width, warps = layout.tile(cols)
        grid = (triton.cdiv(rows, height),)
        _alpha_rows[grid](y, grad, alpha, out, slope, rows, cols, y.stride(0), grad.stride(0), HEIGHT=height, WIDTH=width, num_warps=warps)
        count("entmax_backward", "triton", "rows")
    return out, slope
