"""Sparse relatives of the softmax: sparsemax, entmax-1.5 and entmax of any alpha.

y_i = [(alpha - 1) x_i - tau]_+ ^ (1 / (alpha - 1)) with tau such that the row sums to one (Peters, Niculae & Martins 2019, eq. 10;
sparsemax is alpha = 2, Martins & Astudillo 2016, eq. 2; alpha -> 1 is the softmax). A row of -inf alone gives zeros. The threshold is
kept in float32 (float64 for float64); the result has the dtype of `x`.
"""

import math

import torch
from torch import Tensor

from . import dispatch
from .layout import accumulator, fits, like, moved, rowwise
from .references import applied, asks, root
from .softmax import family_backward, softmax


def sparsemax(x: Tensor, dim: int = -1) -> Tensor:
    """Euclidean projection of `x` onto the simplex along `dim`; shape and dtype of `x`."""
    return _last("sparsemax", x, dim, 2.0)


def entmax15(x: Tensor, dim: int = -1) -> Tensor:
    """Entmax with alpha = 1.5 along `dim`, between softmax and sparsemax; shape and dtype of `x`."""
    return _last("entmax15", x, dim, 1.5)


def entmax(x: Tensor, alpha: float | Tensor = 1.5, dim: int = -1) -> Tensor:
    """Entmax of any alpha >= 1 along `dim`; shape and dtype of `x`.

    Args:
        x: scores of any shape.
        alpha: 1 is softmax, 2 sparsemax. A tensor (all entries above 1) broadcasts against `x` with size 1 along `dim` and gets a
            gradient (Correia, Niculae & Martins 2019, proposition 1).
        dim: the dimension that sums to one.
    """
    if isinstance(alpha, Tensor):
        alpha = rowwise(alpha.to(x.device), x, dim, "alpha")
        return _last("entmax", x, dim, alpha)
    if not 1 <= alpha < math.inf:
        raise ValueError(f"alpha must be at least 1 and finite, not {alpha}")
    if alpha == 1:
        return softmax(x, dim)
    if alpha == 2:
        return sparsemax(x, dim)
    if alpha == 1.5:
        return entmax15(x, dim)
    return _last("entmax", x, dim, float(alpha))


def _last(op: str, x: Tensor, dim: int, alpha: float | Tensor) -> Tensor:
    z = moved(x, dim, -1)
    if z.shape[-1] == 0:
        return x.clone()
    each = isinstance(alpha, Tensor)
    if not dispatch.fused(op, x, f"an alpha that is a tensor with {fits(z)}" if each and fits(z) else None):
        s = accumulator(z)
        y = like(_Entmax.apply(s, alpha.to(s.dtype)) if each else applied(_Entmax, s, alpha), x)
    elif each:
        y = fused_entmax_alphas(z, alpha.float().expand(*z.shape[:-1], 1).squeeze(-1)).to(x.dtype)
    else:
        y = fused_entmax(z, alpha, op)
    return moved(y, -1, dim)


def _shifted(x: Tensor) -> Tensor:
    """`x` less its row maximum, as the mappings are invariant to translation."""
    return x - x.detach().amax(-1, keepdim=True).clamp_min_(torch.finfo(x.dtype).min)


def _ranked(z: Tensor) -> tuple[Tensor, Tensor]:
    """The entries of a row with maximum 0 in descending order, and their ranks. Those below -1, outside every support, are -1: sums stay exact."""
    ordered = z.clamp_min(-1).sort(-1, descending=True).values
    return ordered, torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)


def _sparsemax(z: Tensor) -> Tensor:
    ordered, rank = _ranked(z)
    tau = ordered.cumsum(-1).sub_(1).div_(rank).amax(-1, keepdim=True)  # no k entries have a greater threshold than the support
    return torch.relu(z - tau)


def _entmax15(z: Tensor) -> Tensor:
    """Of half the scores."""
    ordered, rank = _ranked(z)
    sums = ordered.cumsum(-1)
    mean = sums / rank
    excess = ordered.square().cumsum(-1).sub_(1).sub_(sums * mean)
    tau = mean.sub_(root(torch.relu(-excess / rank)))  # if the support were the first k, which it can be where none of them is below
    tau.sub_(torch.sub(tau, ordered).relu_().sign_().mul_(4))  # others fall below all of these, the last of which is the greatest
    return torch.relu(z - tau.amax(-1, keepdim=True)).square()


def _threshold(z: Tensor, alpha: float | Tensor) -> Tensor:
    """Root tau of sum_i [z_i - tau]_+ ^ (1 / (alpha - 1)) = 1 for rows with maximum 0."""
    tau = _newton(z, alpha) if asks(z) and z.numel() and not isinstance(alpha, Tensor) and alpha < 2 else None
    return _bisect(z, alpha) if tau is None else tau


def _newton(z: Tensor, alpha: float) -> Tensor | None:
    """For alpha < 2 the (1 / (alpha - 1))-norm of [z - tau]_+ is convex in tau, and Newton's steps rise from -1 to where it is 1. None if too slowly."""
    tau = torch.full_like(z[..., :1], -1)
    for _ in range(30):
        u = torch.relu(z - tau)
        slope = u ** ((2 - alpha) / (alpha - 1))
        total = u.mul_(slope).sum(-1, keepdim=True).clamp_min_(1)
        step = torch.expm1(total.log().mul_(1 - alpha)).mul_(total).div_(slope.sum(-1, keepdim=True).clamp_min_(1))  # downwards
        tau = tau - step
        if not (step < -4 * torch.finfo(z.dtype).eps).any():  # a row that is NaN does not move
            return tau
    return None


def _bisect(z: Tensor, alpha: float | Tensor) -> Tensor:
    """For any alpha. What is bisected, on a logarithmic scale, is the largest y, which lies between 1/n and 1 and determines tau = -y ^ (alpha - 1)."""
    high = torch.zeros_like(z[..., :1])
    low = high - math.log(z.shape[-1])
    for _ in range(60 if z.dtype == torch.float64 else 30):
        middle = (low + high) / 2
        tau = -(middle * (alpha - 1)).exp()
        short = _powers(z - tau, alpha).sum(-1, keepdim=True) < 1
        low, high = middle.where(short, low), high.where(short, middle)
    return -(high * (alpha - 1)).exp()  # where a large alpha brings low's threshold down to 0, no entry would be above it


def _powers(u: Tensor, alpha: float | Tensor) -> Tensor:
    return torch.relu(u) ** (1 / (alpha - 1))


def entmax_gradient(y: Tensor, grad: Tensor, alpha: float | Tensor) -> Tensor:
    """J^T grad with J = diag(s) - s s^T / sum(s), s = y^(2 - alpha) on the support (Peters et al. 2019, proposition 2).

    For alpha below 1 too, where entmax is the tempered softmax of temperature 2 - alpha.
    """
    if isinstance(alpha, float) and alpha == 2:
        s = y.sign() + y * 0  # NaN stays
    elif isinstance(alpha, float) and alpha == 1.5:
        s = root(y)
    else:
        support = y != 0
        s = (y.where(support, 1) ** (2 - alpha)).where(support, 0)
    part = s * grad
    total = s.sum(-1, keepdim=True).clamp_min(torch.finfo(s.dtype).tiny)
    return part - s * (part.sum(-1, keepdim=True) / total)


def _alpha_gradient(y: Tensor, grad: Tensor, alpha: Tensor) -> Tensor:
    """Correia et al. 2019, proposition 1, whose terms grow without bound and cancel as alpha falls to 1; here they have cancelled.

    With e = (1 - alpha) log y, s = y^(2 - alpha) is y + y e + bend, and bend, of the order of (alpha - 1)^2, a series where e is small.
    """
    safe = y.where(y > 0, 1)
    log_y = safe.log()
    e = (1 - alpha) * log_y
    small, series = e.clamp_max(0.5), 1
    for n in range(16 if y.dtype == torch.float64 else 9, 2, -1):
        series = 1 + small / n * series
    bend = (y * small.square() / 2 * series).where(e < 0.5, (safe ** (2 - alpha)).where(y > 0, 0) - y - y * e)
    rise = bend + y * e
    more, curve, mean = (v.sum(-1, keepdim=True) for v in (rise, bend, y * log_y))
    d = ((y * curve - bend) / (alpha - 1) ** 2 + (rise * mean - y * log_y * more) / (alpha - 1)) / (1 + more)
    return (grad * d).sum_to_size(alpha.shape)


class _Entmax(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, alpha):
        z, number = _shifted(x), isinstance(alpha, float)
        if number and alpha == 2:
            y = _sparsemax(z)
        elif number and alpha == 1.5:
            y = _entmax15(z * 0.5)
        else:
            z = z * (alpha - 1)
            y = _powers(z - _threshold(z, alpha), alpha)
        return y / y.sum(-1, keepdim=True).clamp_min(torch.finfo(y.dtype).tiny)

    @staticmethod
    def setup_context(ctx, inputs, output):
        each = isinstance(inputs[1], Tensor)
        ctx.alpha = None if each else inputs[1]
        ctx.save_for_backward(output, *inputs[1:] if each else ())

    @staticmethod
    def backward(ctx, grad):
        y, *alphas = ctx.saved_tensors
        alpha = alphas[0] if alphas else ctx.alpha
        return entmax_gradient(y, grad, alpha), _alpha_gradient(y, grad, alpha) if ctx.needs_input_grad[1] else None


@dispatch.kernel("entmax")
def fused_entmax(x: Tensor, alpha: float, kind: str) -> Tensor:
    from . import entmax_triton

    return entmax_triton.forward(kind, x, alpha)


@dispatch.kernel("entmax_alphas")
def fused_entmax_alphas(x: Tensor, alpha: Tensor) -> Tensor:
    """Entmax, in float32, of rows with an alpha each (float32, of their shape). The slope in alpha would magnify the rounding of less."""
    from . import entmax_triton

    return entmax_triton.forward_alphas(x, alpha)


@dispatch.kernel("entmax_alphas_backward")
def entmax_alphas_backward(grad: Tensor, y: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients in `x` and in each row's alpha."""
    from . import entmax_triton

    return entmax_triton.backward_alphas(grad, y, alpha)


@fused_entmax.register_fake
def _(x, alpha, kind):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _save(ctx, inputs, output):
    _, ctx.alpha, ctx.kind = inputs
    ctx.save_for_backward(output)


def _backward(ctx, grad):
    (y,) = ctx.saved_tensors
    if torch.is_grad_enabled():  # a second derivative was asked for
        return entmax_gradient(accumulator(y), accumulator(grad), ctx.alpha).to(y.dtype), None, None
    return family_backward(y, grad, 1.0, ctx.alpha, ctx.kind), None, None


@fused_entmax_alphas.register_fake
def _(x, alpha):
    return torch.empty(x.shape, dtype=torch.float32, device=x.device)


@entmax_alphas_backward.register_fake
def _(grad, y, alpha):
    return torch.empty(y.shape, dtype=torch.float32, device=y.device), torch.empty(alpha.shape, dtype=torch.float32, device=y.device)


def _save_alphas(ctx, inputs, output):
    ctx.dtype = inputs[0].dtype
    ctx.save_for_backward(output, inputs[1])


def _backward_alphas(ctx, grad):
    y, alpha = ctx.saved_tensors
    if torch.is_grad_enabled():  # a second derivative was asked for
        d, slope = entmax_gradient(y, grad, alpha[..., None]), _alpha_gradient(y, grad, alpha[..., None]).squeeze(-1)
    else:
        d, slope = entmax_alphas_backward(grad, y, alpha)
    return d.to(ctx.dtype), slope


fused_entmax_alphas.register_autograd(_backward_alphas, setup_context=_save_alphas)
fused_entmax.register_autograd(_backward, setup_context=_save)
for _kind in ("sparsemax", "entmax15", "entmax"):
    dispatch.register(_kind)
