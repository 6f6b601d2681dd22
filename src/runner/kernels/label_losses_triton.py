"""Kernel of the losses from labels: one read of a row and its target gives the loss, its gradient, or both; a row stays in registers."""

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .exponential_triton import exp, finite


@triton.jit
def _expm1(x):
    """exp(x) - 1 for x <= 0, without cancellation near 0."""
    series = 1 / 24 + x * (1 / 120 + x * (1 / 720 + x * (1 / 5040 + x * (1 / 40320))))
    series = x * (1.0 + x * (1 / 2 + x * (1 / 6 + x * series)))
    return tl.where(x > -0.5, series, exp(x) - 1)


@triton.jit
def _power(x, n):
    """x^n for x >= 0 and n > 0."""
    return tl.exp2(n * tl.log2(x))


@triton.jit
def _inverse(x):
    """1 / x for x >= 1, in a third of a division's instructions."""
    return tl.rsqrt(x * x)


@triton.jit
def _row_sum(x):
    return tl.sum(x, 1)[:, None]


@triton.jit
def _under(t, x):
    """sum_c t_c x_c, where x may be infinite at classes that have no share."""
    return _row_sum(tl.where(t == 0, 0.0, t * x))


@triton.jit
def _exponentials(s, scale):
    """exp(scale (s - top)) with the largest score as top, their sum, which is 1 in a row of -inf, and its logarithm."""
    top = finite(tl.max(s, 1))[:, None]
    e = exp(s - top, scale)
    total = _row_sum(e)
    total = tl.where(total == 0, 1.0, total)
    return e, total, top, tl.log(total)


@triton.jit
def _class_loss(log_p, p, rest, power, KIND: tl.constexpr):
    """F(log p) and its derivative, which is 0 at log p = -inf; rest is 1 - p."""
    if KIND == "ce":
        loss = -log_p
        slope = -1.0
    elif KIND == "mae":
        loss = rest
        slope = -p
    elif KIND == "gce":
        loss = -_expm1(power * log_p) * (1 / power)
        slope = -exp(log_p, power)
    elif KIND == "focal_squared":
        loss = -(rest * rest) * log_p
        slope = rest * (2 * p * log_p - rest)
    else:
        rest = tl.where(rest < 1e-12, 1e-12, rest)
        weight = tl.exp2((power - 1) * tl.log2(rest))
        loss = -(weight * rest) * log_p
        slope = weight * (power * p * log_p - rest)
    return loss, tl.where(log_p == float("-inf"), 0.0, slope)


@triton.jit
def _sum(
    s, t, own, live, alpha, beta, power, floor,
    KIND: tl.constexpr, NORMALISED: tl.constexpr, PASSIVE: tl.constexpr, HARD: tl.constexpr,
):  # fmt: skip
    """alpha F + beta G and its gradient; v is the gradient in log p, of which a hard label alone takes the part `pull`."""
    e, total, top, log_total = _exponentials(s, 1.0)
    p = e * (1 / total)
    log_p = s - top - log_total
    if HARD:
        at = own - top - log_total
        loss, pull = _class_loss(at, exp(at), -_expm1(at), power, KIND)
    else:
        each, slope = _class_loss(log_p, p, 1 - p, power, KIND)
        loss = _under(t, each)
        pull = t * slope
    scale = alpha
    if NORMALISED:  # a class near 1, whose 1 - p cancels, has no part in the sum
        each, slope = _class_loss(log_p, p, 1 - p, power, KIND)
        whole = _row_sum(tl.where(live, each, 0.0))
        whole = tl.where(whole == 0, 1.0, whole)
        loss = loss / whole
        scale = tl.where(loss == float("inf"), 0.0, alpha / whole)
        back = tl.where(loss == float("inf"), 0.0, loss) * scale
    loss *= alpha
    pull *= scale
    if PASSIVE == "mae":
        if HARD:
            loss -= beta * _expm1(at)
            pull -= beta * exp(at)
        else:
            loss += beta * _row_sum(t * (1 - p))
            pull -= beta * t * p
    v = pull
    drift = pull
    if HARD:
        v = tl.where(t == 0, 0.0, pull)
    else:
        drift = _row_sum(v)
    if NORMALISED:
        v -= back * slope
        drift -= back * _row_sum(slope)
    if PASSIVE == "rce":
        cost = -tl.log(tl.where(t < floor, floor, t)) * p
        whole_cost = beta * _row_sum(cost)
        loss += whole_cost
        v += beta * cost
        drift += whole_cost
    d = v - e * (drift * (1 / total))
    if PASSIVE == "maxsup":
        lag = s - top  # compared anew below: comparisons that are kept fill registers
        classes = tl.maximum(_row_sum(tl.where(lag != float("-inf"), 1.0, 0.0)), 1.0)
        loss -= beta * _row_sum(tl.where(lag != float("-inf"), lag, 0.0)) / classes
        tops = tl.maximum(_row_sum(tl.where(lag == 0, 1.0, 0.0)), 1.0)
        d += tl.where(s == top, beta / tops, 0.0) - tl.where(live, beta / classes, 0.0)
    return loss, d


@triton.jit
def _clipped(s, t, own, live, tau, p, NORM: tl.constexpr, HARD: tl.constexpr):
    z = tl.where(live, s, 0.0)
    size = tl.abs(z)
    largest = tl.max(size, 1)[:, None]
    unit = 1 / tl.minimum(tl.maximum(largest, 1e-30), 1e30)  # keeps powers in the range of float32
    if NORM == "inf":
        norm = largest
    elif NORM == "2":
        norm = tl.sqrt(_row_sum((z * unit) * (z * unit))) / unit
    else:
        powers = _power(size * unit, p)
        length = _power(_row_sum(powers), 1 / p)
        norm = length / unit
    shrink = tau / tl.where(norm < tau, tau, norm)
    e, total, top, log_total = _exponentials(s, shrink)
    if HARD:
        loss = log_total - (own - top) * shrink
        whole = tl.where(own == float("-inf"), 0.0, 1.0)
        pulled = tl.where(whole == 0, 0.0, own - top)
        pull = whole * shrink
    else:
        loss = _under(t, log_total - (s - top) * shrink)
        t = tl.where(live, t, 0.0)
        whole = _row_sum(t)
        pulled = _row_sum(t * (z - top))
        pull = shrink
    push = whole * shrink / total
    drift = push * _row_sum(e * (z - top)) - shrink * pulled  # the slope in log(norm): sum_c z_c d_c, where d sums to 0
    drift = tl.where(norm > tau, drift / norm, 0.0)
    d = e * push - t * pull
    if NORM == "inf":
        drift /= _row_sum(tl.where(size == largest, 1.0, 0.0))
        d -= tl.where(size == largest, tl.where(z < 0, -drift, drift), 0.0)
    elif NORM == "2":
        d -= z * (drift / tl.where(norm == 0, 1.0, norm))
    else:
        drift *= tl.exp2((1 - p) * tl.log2(tl.where(length == 0, 1.0, length)))
        d -= tl.where(powers == 0, 0.0, drift * powers * (1 / (z * unit)))
    return loss, d


@triton.jit
def _log1p_exp(s):
    """log(1 + u) for u = exp(-|s|), by the polynomial whose relative error over [0, 1] is least, 3e-8."""
    u = exp(-tl.abs(s))
    series = 0.191060064 + u * (-0.136632453 + u * (0.0782259478 + u * (-0.0295052373 + u * 0.00523269411)))
    return u * (0.99999997 + u * (-0.499994931 + u * (0.333190968 + u * (-0.248429821 + u * series))))


@triton.jit
def _ldr(s, t, own, live, lam, margin, NORMALISE: tl.constexpr, HARD: tl.constexpr):
    classes = tl.maximum(_row_sum(tl.where(live, 1.0, 0.0)), 1.0)
    z = s
    if NORMALISE:
        low = tl.minimum(tl.maximum(tl.max(s, 1)[:, None], -1e30) + 30, 0.0)  # softplus of a row far below 0 would vanish
        s -= low
        rest = _log1p_exp(s)
        z = tl.maximum(s, 0.0) + rest
        level = _row_sum(z)
        level = classes / tl.where(level == 0, classes, level)
        z *= level
        if HARD:
            own -= low
            own = (tl.maximum(own, 0.0) + _log1p_exp(own)) * level
    raised = z + (tl.where(t == 0, margin, 0.0) if HARD else margin * (1 - t))
    raised = tl.where(s == float("-inf"), float("-inf"), raised)
    e, total, top, log_total = _exponentials(raised, 1 / lam)
    lead = top - (own if HARD else _under(t, z))  # of large numbers a small difference
    loss = lam * (log_total - tl.log(classes)) + lead
    d = e * (1 / total) - t
    if NORMALISE:  # the slope of softplus is exp(s - softplus(s)), which is 0 at -inf
        d = (d - _row_sum(d * z) / classes) * (level * exp(tl.minimum(s, 0.0) - rest))
    else:
        d = tl.where(live, d, 0.0)
    return loss, d


@triton.jit
def _fall(u, n, N: tl.constexpr):
    """u^-n for u >= 1, where n is the whole number N or N is -1, and 1 / u."""
    inverse = _inverse(u)
    if N < 0:
        power = tl.exp2(tl.log2(u) * -n)
    else:
        power = 1.0
        square = inverse
        for bit in tl.static_range(4):
            if (N >> bit) % 2:
                power *= square
            square *= square
    return power, inverse


@triton.jit
def _log_t(p, head, t, LOG: tl.constexpr):
    """The inverse of exp_t at p, whose power 1 - t is `head`."""
    if LOG:
        return tl.log(tl.maximum(p, 1e-30))
    else:
        return (tl.maximum(head, tl.exp2((1 - t) * -99.65784284662087)) - 1) / (1 - t)


@triton.jit
def _bi_tempered(s, t, own, live, t1, t2, STEPS: tl.constexpr, TAIL: tl.constexpr, HEAD: tl.constexpr, HARD: tl.constexpr):
    """`head` is p^(1 - t1), `weight` p^(t2 - t1); with u = base - (t2 - 1) s: p = u^-n, p^t2 = p / u. TAIL is n, or None if t2 is 1; HEAD is
    (1 - t1) n, or None if t1 is 1; -1 stands for fractions."""
    if TAIL is None:
        e, total, top, log_total = _exponentials(s, 1.0)
        p = e * (1 / total)
        head = exp(s - top - log_total, 1 - t1)
        weight = head
        escort = p
        if HARD:
            at = own - top - log_total
            own_p = exp(at)
            own_head = exp(at, 1 - t1)
            own_weight = own_head
    else:
        n = 1 / (t2 - 1)
        m = (1 - t1) * n
        top = finite(tl.max(s, 1))[:, None]
        depth = (top - s) * (t2 - 1)
        shrink = tl.zeros_like(top) + 1
        for _step in range(STEPS + 1):
            p, inverse = _fall(depth * shrink + 1, n, TAIL)
            total = _row_sum(p)
            shrink = tl.exp2((1 - t2) * tl.log2(tl.where(total == 0, 1.0, total)))
        base = 1 / shrink
        for _step in range(2):
            p, inverse = _fall(depth + base, n, TAIL)
            slope = n * _row_sum(p * inverse)
            base += (_row_sum(p) - 1) / tl.where(slope == 0, 1.0, slope)
            base = tl.where(base < 1, 1.0, base)
        p, inverse = _fall(depth + base, n, TAIL)
        head, inverse = _fall(depth + base, m, 0 if HEAD is None else HEAD)
        weight = head * inverse
        escort = p * inverse
        if HARD:
            own_u = (top - own) * (t2 - 1) + base
            own_p, own_inverse = _fall(own_u, n, TAIL)
            own_head, own_inverse = _fall(own_u, m, 0 if HEAD is None else HEAD)
            own_weight = own_head * own_inverse
    loss = _row_sum(p * head) / (2 - t1)
    if HARD:
        loss -= _log_t(own_p, own_head, t1, HEAD is None) + 1 / (2 - t1)
        forget = p * weight - t * tl.where(own_p < 1e-30, 0.0, own_weight)
    else:
        given = tl.maximum(t, 1e-10)
        given_head = 1.0 if HEAD is None else tl.exp2((1 - t1) * tl.log2(given))
        gain = _log_t(given, given_head, t1, HEAD is None) - _log_t(p, head, t1, HEAD is None)
        loss += _row_sum(t * (gain - given_head / (2 - t1)))
        forget = tl.where(p < 1e-30, 0.0, (p - t) * weight)
    whole = _row_sum(escort)
    return loss, forget - escort * (_row_sum(forget) / tl.where(whole == 0, 1.0, whole))


@triton.jit
def _rows(
    x, target, grad, loss, out, rows, cols, x_stride, ignore_index, size1, size2, stride0, stride1, stride2, target_col, a, b, c, d,
    FORMULA: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr, THIRD: tl.constexpr, HARD: tl.constexpr,
    LOSS: tl.constexpr, GRADIENT: tl.constexpr, SCALED: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    at = target + row // size2 // size1 * stride0 + row // size2 % size1 * stride1 + row % size2 * stride2
    counts = tl.where(row < rows, 1.0, 0.0)
    if HARD:
        label = tl.load(at, row < rows, other=0)
        counts = tl.where((label < 0) | (label >= cols), float("nan"), counts)
        counts = tl.where(label == ignore_index, 0.0, counts)
        t = tl.where(col == label.to(tl.int32), 1.0, 0.0)
        own = tl.load(x + row * x_stride + label, (row < rows) & (label >= 0) & (label < cols), other=0.0).to(tl.float32)
    else:
        own = None
        t = tl.load(at + col.to(tl.int64) * target_col, inside, other=0.0).to(tl.float32)
    live = s != float("-inf")
    if FORMULA == "clipped":
        value, slope = _clipped(s, t, own, live, a, b, FIRST, HARD)
    elif FORMULA == "ldr":
        value, slope = _ldr(s, t, own, live, a, b, FIRST, HARD)
    elif FORMULA == "bi_tempered":
        value, slope = _bi_tempered(s, t, own, live, a, b, FIRST, SECOND, THIRD, HARD)
    else:
        value, slope = _sum(s, t, own, live, a, b, c, d, FIRST, SECOND, THIRD, HARD)
    if LOSS:
        tl.store(loss + row, tl.where(counts == 0, 0.0, counts * value), row < rows)
    if GRADIENT:
        if SCALED:  # a mean over nothing has an infinite gradient
            counts = tl.where(counts == 0, 0.0, counts * tl.load(grad + row, row < rows, other=0.0).to(tl.float32))
        tl.store(out + row * cols + col, (counts * slope).to(out.dtype.element_ty), inside & (counts != 0))
        tl.store(out + row * cols + col, 0.0, inside & (counts == 0))


def _constants(formula: str, parameters: Sequence[float]) -> dict:
    """Which function of this module runs, and its constants."""
    if formula == "clipped":
        chosen = formula, "inf" if parameters[1] == math.inf else "2" if parameters[1] == 2 else "p", None, None
    elif formula == "ldr":
        chosen = formula, bool(parameters[2]), None, None
    elif formula == "bi_tempered":
        t1, t2 = parameters[:2]
        n = 1 / (t2 - 1) if t2 > 1 else 0.0
        tail, head = (round(x) if math.isclose(x, round(x), rel_tol=1e-9) and x < 16 else -1 for x in (n, (1 - t1) * n))
        chosen = formula, int(parameters[2]), tail if t2 > 1 else None, head if t1 < 1 else None
    else:
        active, passive = formula.split("+")
        kind = {"nce": "ce", "nfl": "focal"}.get(active, active)
        kind = {("gce", 1): "mae", ("focal", 2): "focal_squared"}.get((kind, parameters[2]), kind)  # which need no logarithm
        chosen = "sum", kind, active in ("nce", "nfl"), passive
    return dict(zip(("FORMULA", "FIRST", "SECOND", "THIRD"), chosen, strict=True))


def _launch(grad, logits: Tensor, target: Tensor, formula: str, parameters: Sequence[float], ignore_index: int, loss, out) -> None:
    """Fills `loss` and `out`, the gradient; None where one is not wanted."""
    hard = not target.is_floating_point()
    target, sizes, strides = layout.broadcast_strides(target[..., None] if hard else target)
    x = layout.dense(logits)
    height, width, warps = layout.tile(x.shape[1])
    _rows[(triton.cdiv(len(x), height),)](
        x, target, grad, loss, out, *x.shape, x.stride(0), ignore_index, *sizes[1:], *strides, target.stride(-1), *(*parameters, 0.0, 0.0)[:4],
        **_constants(formula, parameters), HARD=hard, LOSS=loss is not None, GRADIENT=out is not None, SCALED=grad is not None,
        HEIGHT=height, WIDTH=width, num_warps=warps,
    )  # fmt: skip


def forward(logits: Tensor, target: Tensor, formula: str, parameters: Sequence[float], ignore_index: int, gradient: bool) -> tuple[Tensor, Tensor]:
    """The loss of each row, and its gradient or an empty tensor."""
    loss = torch.zeros(logits.shape[:-1], dtype=torch.float32, device=logits.device)
    out = torch.empty(logits.shape if gradient else (0,), dtype=logits.dtype, device=logits.device)
    if logits.numel():
        _launch(None, logits, target, formula, parameters, ignore_index, loss, out if gradient else None)
        count("label_loss", "triton", "rows")
    return loss, out


def backward(grad: Tensor, logits: Tensor, target: Tensor, formula: str, parameters: Sequence[float], ignore_index: int) -> Tensor:
    """The gradient in the logits, from the logits alone."""
    out = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    if logits.numel():
        _launch(grad.contiguous(), logits, target, formula, parameters, ignore_index, None, out)
        count("label_loss_backward", "triton", "rows")
    return out
