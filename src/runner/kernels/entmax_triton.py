"""Forward kernels of sparsemax, entmax-1.5 and entmax: no sort, the threshold is found by Newton's method.

With z = (alpha - 1)(x - max x), u = [z - tau]_+ and p = 1 / (alpha - 1), the threshold solves |u|_p = 1. For p >= 1 the norm is convex
and falls in tau, so that Newton climbs from tau = -1 without overshooting, and the product of residual and slope falls at least fourfold
a step: some 32 steps exhaust float32 at a million columns; normal logits take 1 or 2 from the threshold of their groups' maxima. Both sparsemax
and entmax-1.5 close with the exact solution on the support. For alpha > 2 ("steep") the largest y lies between 1/n and 1 and determines
tau = -y^(alpha - 1): it is bisected, geometrically, within bounds that each sum narrows. The search closes with the upper end: at the
lower one a large alpha may bring tau down to 0, and no entry would be above it.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .exponential_triton import finite


@triton.jit
def terms(s, tau, scale, p, KIND: tl.constexpr):
    """The summands of |u|_p^p and of its slope, of scores less their maximum. The clamp costs nothing: on a GPU it is part of the product."""
    u = tl.clamp(s * scale - tau, 0.0, 1.0)
    if KIND == "sparsemax":
        return u, tl.clamp(u * 1e38, 0.0, 1.0)
    elif KIND == "entmax15":
        return u * u, u
    elif KIND == "entmax":
        slope = tl.exp2((p - 1) * tl.log2(u))
        return u * slope, slope
    elif KIND == "steep":
        power = tl.exp2(p * tl.log2(u))
        return power, power
    else:
        slope = u * u
        for _ in tl.static_range(KIND - 3):
            slope *= u
        return u * slope, slope


@triton.jit
def _middle(low, high, p):
    return -tl.exp2(0.5 * (tl.log2(low) + tl.log2(high)) / p)


@triton.jit
def _advance(tau, low, high, total, slope, size, p, KIND: tl.constexpr):
    """The next threshold, the next bracket of the largest y, the support's size, and whether the search goes on."""
    slope = tl.maximum(slope, 1e-30)
    if KIND == "steep":
        y = tl.sqrt(low * high)
        bound = y / tl.maximum(total, 1e-30)  # beyond the root, as the sum grows at least as fast as y
        low, high = tl.where(total < 1, y, tl.maximum(low, bound)), tl.where(total < 1, tl.minimum(high, bound), y)
        return _middle(low, high, p), low, high, size, high - low > 1e-7 * high
    if KIND == "sparsemax":
        return tau + (total - 1) / slope, low, high, slope, (total - 1 > 1e-6) & (slope < size)
    if KIND == "entmax15":
        norm = tl.sqrt(total)
        new = tau + (norm - 1) * norm / slope
    else:
        norm = tl.exp2(tl.log2(tl.maximum(total, 1e-30)) / p)
        new = tau + (norm - 1) * total / norm / slope
    return new, low, high, size, (total - 1 > 1e-6) & (new > tau)


@triton.jit
def _close(tau, total, slope, KIND: tl.constexpr):
    """The threshold that solves the equation on the support: of sum (u - d) = 1, and of sum (u - d)^2 = 1, but for d^2."""
    if KIND == "sparsemax":
        return tau + (total - 1) / tl.maximum(slope, 1.0)
    elif KIND == "entmax15":
        return tau + (total - 1) / tl.maximum(2 * slope, 1e-30)
    else:
        return tau


@triton.jit
def _unit(top, total, KIND: tl.constexpr):
    """What the powers are multiplied with: 1 or 1 / total, NaN in a row that has NaN or inf."""
    if KIND == "sparsemax" or KIND == "entmax15":
        return 1 + (top - top)
    else:
        return 1 / tl.where(total == 0, 1.0, total) + (top - top)


@triton.jit
def _search(s, tau, scale, cols, p, lowest, KIND: tl.constexpr, STEPS: tl.constexpr):
    """The threshold of rows that are held whole, from one that is not too high, and the powers and sums there."""
    high = tl.zeros_like(tau) + 1.0
    low = high * lowest
    if KIND == "steep":
        tau = _middle(low, high, p)
    size = high * (cols + 1.0)
    total = tl.zeros_like(high)
    slope = tl.zeros_like(high)
    step = 0
    moving = True
    while moving:
        powers, slopes = terms(s, tau, scale, p, KIND)
        total = tl.sum(powers, 1)[:, None]
        slope = tl.sum(slopes, 1)[:, None]
        new, low, high, size, open = _advance(tau, low, high, total, slope, size, p, KIND)
        tau = tl.where(open, new, tau)
        step += 1
        moving = (tl.max(tl.max(open.to(tl.int32), 1), 0) > 0) & (step < STEPS)
    if KIND == "steep":
        tau = _middle(high, high, p)
        powers, _slopes = terms(s, tau, scale, p, KIND)
        total = tl.sum(powers, 1)[:, None]
    return tau, total, slope


@triton.jit
def _tops(groups):
    """Maxima along the last dimension; inf, which leads to NaN, where a NaN is in the sum, as maxima drop it."""
    last: tl.constexpr = len(groups.shape) - 1
    some = tl.sum(groups * 1e-6, last)
    return tl.where(some == some, tl.max(groups, last), float("inf"))


@triton.jit
def project(s, scale, cols, p, lowest, KIND: tl.constexpr, STEPS: tl.constexpr, GROUP: tl.constexpr):
    """Scores less their maximum, that, the threshold, and what the powers there are multiplied with, of rows that are held whole.

    A thread loads a group of columns at once. The groups' maxima have a threshold that is not above the row's, and mostly is the row's.
    """
    tops = _tops(s.reshape(s.shape[0], s.shape[1] // GROUP, GROUP))
    top = tl.max(tops, 1)[:, None]
    top = finite(top)
    s -= top
    tau = tl.zeros_like(top) - 1.0
    if KIND != "steep" and GROUP > 1:
        tau, total, slope = _search(tops - top, tau, scale, cols, p, lowest, KIND, STEPS)
    tau, total, slope = _search(s, tau, scale, cols, p, lowest, KIND, STEPS)
    return s, top, _close(tau, total, slope, KIND), _unit(top, total, KIND)


@triton.jit
def _forward_rows(
    x, y, rows, cols, x_stride, scale, p, lowest,
    KIND: tl.constexpr, STEPS: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, GROUP: tl.constexpr, ALPHAS: tl.constexpr = False,
):  # fmt: skip
    """If ALPHAS, `scale` points to an alpha for each row, and `p` is not read."""
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    if ALPHAS:
        scale = tl.load(scale + row, row < rows, other=2.0) - 1
        p = 1 / scale
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    s, _top, tau, unit = project(s, scale, cols, p, lowest, KIND, STEPS, GROUP)
    powers, _slopes = terms(s, tau, scale, p, KIND)
    tl.store(y + row * cols + col, (powers * unit).to(y.dtype.element_ty), inside)


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
    share = s * (1 / tl.where(total > 0, total, 1.0))
    dot = tl.sum(share * g, 1)[:, None]
    tl.store(out + row * cols + col, (s * (g - dot)).to(out.dtype.element_ty), inside)
    # the slope in alpha without the large terms that cancel near 1, see _alpha_gradient
    log_v = log_v * 0.6931471805599453
    e = (1 - a) * log_v
    small = tl.minimum(e, 0.5)
    series = tl.zeros_like(v) + 1.0
    for n in tl.static_range(7):
        series = 1.0 + small * series * (1.0 / (9 - n))
    bend = tl.where(e < 0.5, v * small * small * 0.5 * series, s - v - v * e)
    rise = bend + v * e
    more = tl.sum(rise, 1)[:, None]
    curve = tl.sum(bend, 1)[:, None]
    mean = tl.sum(v * log_v, 1)[:, None]
    d = (v * curve - bend) * (1 / (a - 1)) + rise * mean - v * log_v * more
    tl.store(slope + row, tl.sum(g * d, 1)[:, None] / ((a - 1) * (1 + more)), row < rows)


@triton.jit
def _sums(kept, found, top, scale, tau, p, KIND: tl.constexpr, SPAN: tl.constexpr, GROUP: tl.constexpr):
    powers = tl.zeros([SPAN], tl.float32)
    slopes = tl.zeros([SPAN], tl.float32)
    at = tl.arange(0, SPAN)[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    for start in range(0, found, SPAN):
        s = tl.load(kept + start * GROUP + at, at < (found - start) * GROUP, other=float("-inf")).to(tl.float32) - top
        power, slope = terms(s, tau, scale, p, KIND)
        powers += tl.sum(power, 1)
        slopes += tl.sum(slope, 1)
    return tl.sum(powers), tl.sum(slopes)


@triton.jit
def _forward_wide(
    x, y, kept, place, rows, cols, room, x_stride, scale, p, lowest,
    KIND: tl.constexpr, STEPS: tl.constexpr, CHUNK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """One program a row: keep the few groups of columns within reach of the running maximum, and write zeros to the others; search among
    those that are kept, and write them."""
    SPAN: tl.constexpr = CHUNK // 4 // GROUP
    program = tl.program_id(0).to(tl.int64)
    programs = tl.num_programs(0).to(tl.int64)
    kept += program * room
    place += program * (room // GROUP)
    source = x + program * x_stride
    target = y + program * cols
    group = tl.arange(0, CHUNK // GROUP)
    each = tl.arange(0, GROUP)[None, :]
    for _row in range(tl.program_id(0), rows, tl.num_programs(0)):
        top = float("-inf")
        found = 0
        for start in tl.range(0, cols, CHUNK, num_stages=3):
            col = start + group[:, None] * GROUP + each
            raw = tl.load(source + col, col < cols, other=float("-inf"))
            tops = _tops(raw.to(tl.float32))
            top = tl.maximum(top, tl.max(tops, 0))
            keep = (tops - top) * scale > -1
            at = found + tl.cumsum(keep.to(tl.int32), 0) - 1
            tl.store(kept + at[:, None] * GROUP + each, raw, keep[:, None])
            tl.store(place + at, start + group * GROUP, keep)
            tl.store(target + col, tl.zeros_like(raw), (keep[:, None] == 0) & (col < cols))
            found += tl.sum(keep.to(tl.int32), 0)
        top = finite(top)
        tl.debug_barrier()  # the kept entries are read by other threads than wrote them
        tau = -1.0
        high = 1.0
        low = high * lowest
        if KIND == "steep":
            tau = _middle(low, high, p)
        size = cols + 1.0
        total = 0.0
        slope = 0.0
        step = 0
        moving = True
        while moving:
            total, slope = _sums(kept, found, top, scale, tau, p, KIND, SPAN, GROUP)
            new, low, high, size, open = _advance(tau, low, high, total, slope, size, p, KIND)
            tau = tl.where(open, new, tau)
            step += 1
            moving = open & (step < STEPS)
        if KIND == "steep":
            tau = _middle(high, high, p)
            total, slope = _sums(kept, found, top, scale, tau, p, KIND, SPAN, GROUP)
        tau = _close(tau, total, slope, KIND)
        unit = _unit(top, total, KIND)
        for start in range(0, found, SPAN):
            at = start + tl.arange(0, SPAN)
            col = tl.load(place + at, at < found, other=cols)[:, None] + each
            s = tl.load(kept + at[:, None] * GROUP + each, at[:, None] < found, other=float("-inf")).to(tl.float32) - top
            powers, _slopes = terms(s, tau, scale, p, KIND)
            tl.store(target + col, (powers * unit).to(y.dtype.element_ty), col < cols)
        if unit != unit:
            for start in range(0, cols, CHUNK):
                col = start + tl.arange(0, CHUNK)
                tl.store(target + col, tl.full([CHUNK], float("nan"), y.dtype.element_ty), col < cols)
        source += programs * x_stride
        target += programs * cols
        tl.debug_barrier()  # the next row reuses the space


def variant(alpha: float) -> str | int:
    """What kernels are compiled for: a small whole p that needs no logarithms, any p above 1, or bisection."""
    p = 1 / (alpha - 1)
    whole = round(p)
    if abs(p - whole) < 1e-6 * p and whole <= 12:
        return {1: "sparsemax", 2: "entmax15"}.get(whole, whole)
    return "entmax" if p > 1 else "steep"


def group(x: Tensor, width: int) -> int:
    """Columns of a group in a row that is held; in short rows, many of which share a thread, groups would fill its registers."""
    return layout.group(x) if width >= 512 else 1


def forward(kind: str, x: Tensor, alpha: float) -> Tensor:
    """Along the last dimension of `x`."""
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not x.numel():
        return y
    x = layout.dense(x)
    rows, cols = x.shape
    shared = (rows, cols, x.stride(0), alpha - 1, 1 / (alpha - 1), 1 / cols)
    constants = {"KIND": variant(alpha), "STEPS": 64}
    if cols <= layout.WIDEST:
        height, width, warps = layout.tile(cols)
        if group(x, width) > 1 and constants["KIND"] not in ("entmax", "steep"):  # terms without logarithms take less than their sums over a row
            warps //= 2
        constants |= {"HEIGHT": height, "WIDTH": width, "GROUP": group(x, width), "num_warps": warps}
        _forward_rows[(triton.cdiv(rows, height),)](x, y, *shared, **constants)
        count(kind, "triton", "rows")
        return y
    chunk = layout.chunk(x, x)  # twice, as it also keeps what it loads
    programs, room = min(rows, layout.PROGRAMS), triton.cdiv(cols, chunk) * chunk
    kept = torch.empty(programs, room, dtype=x.dtype, device=x.device)
    place = torch.empty(programs, room // layout.group(x), dtype=torch.int32, device=x.device)
    shared = (x, y, kept, place, rows, cols, room, *shared[2:])
    _forward_wide[(programs,)](*shared, **constants, CHUNK=chunk, GROUP=layout.group(x), num_warps=8)
    count(kind, "triton", "loop")
    return y


def forward_alphas(x: Tensor, alpha: Tensor) -> Tensor:
    """Along the last dimension of `x`, in float32, with an alpha for each row; always by bisection, which holds for every alpha above 1."""
    y = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    if x.numel():
        x, alpha = layout.dense(x), alpha.contiguous()
        rows, cols = x.shape
        height, width, warps = layout.tile(cols)
        constants = {"KIND": "steep", "STEPS": 64, "HEIGHT": height, "WIDTH": width, "GROUP": 1, "ALPHAS": True, "num_warps": warps}
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
