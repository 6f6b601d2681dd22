"""Gumbel-softmax with noise from Philox, so that a seed fixes the samples on every device and for every backend.

y = softmax((x + g) / tau) with g = -log(-log u); Jang, Gu & Poole 2017, equation 2, Maddison, Mnih & Teh 2017. Entry (row, column) of the
tensor, with `dim` last and the other dimensions flattened, takes word column % 4 of Philox4x32-10 (Salmon et al. 2011) at the counter
(column // 4, row mod 2^32, row // 2^32, 0) under the key `seed`; u is its upper 24 bits, centred, below 1.
"""

import functools
import math

import torch
from torch import Tensor

from . import dispatch
from .layout import accumulator, fits, like, moved
from .references import asks
from .softmax import REFERENCES, family_backward, softmax

MASK = 0xFFFFFFFF


def gumbel_softmax(x: Tensor, tau: float = 1.0, hard: bool = False, dim: int = -1, *, seed: int | Tensor | None = None) -> Tensor:
    """A relaxed sample of the categorical distribution of the logits `x`, of their shape and dtype.

    Args:
        x: logits of any shape (float32, bfloat16, float16; any float in the reference). -inf excludes a category. Rows over
            32,768 columns make the noise first and go through `softmax`.
        tau: temperature, positive.
        hard: give the one-hot sample, with the gradient of the relaxed one; zeros where all categories are excluded.
        dim: the dimension of the categories.
        seed: an integer or a zero-dimensional integer tensor. None draws one from torch's generator of the device of `x`.
    """
    if not tau > 0:
        raise ValueError(f"tau must be positive, not {tau}")
    if seed is None:
        seed = torch.randint(2**62, (), device=x.device)
    elif not isinstance(seed, Tensor):
        seed = torch.full((), seed, dtype=torch.int64, device=x.device)
    given = x
    if hard:  # weights rounded to 16 bits tie, and the first of them would win too often
        x = accumulator(x)
    x = moved(x, dim, -1)
    if x.shape[-1] == 0:
        y = x.clone()
    elif (fused := dispatch.fused("gumbel_softmax", x)) and not fits(x):
        y = fused_gumbel_softmax(x, seed, tau)
    else:
        s = accumulator(x)
        s = s + like(gumbel_noise(x.shape, seed, x.device), s)
        y = like((softmax if fused else REFERENCES["softmax"])(s if tau == 1 else s / tau), x)
    if hard and y.shape[-1]:
        best = y.detach().argmax(-1, keepdim=True)
        one = (y.detach().gather(-1, best) > 0).to(y.dtype)  # but 0 in a row that excludes all
        y = torch.zeros_like(y).scatter(-1, best, one) + (y - y.detach())
    return like(moved(y, -1, dim), given)


def gumbel_noise(shape: tuple[int, ...], seed: int | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """The noise that `gumbel_softmax` adds to a tensor of `shape`, its categories last; float32."""
    rows, cols = math.prod(shape[:-1]), shape[-1]
    seed = torch.as_tensor(seed, device=device)
    words = _torchs(rows, cols, seed) if asks(seed) and rows < MASK and _known() else _words(rows, cols, seed)
    u = words.bitwise_right_shift_(8).bitwise_and_(2**24 - 1).float().add_(0.5).mul_(2**-24)
    return u.clamp_max_(1 - 2**-24).log_().neg_().log_().neg_().view(shape)  # the last of them would round to 1, and its noise be inf


def _words(rows: int, cols: int, seed: Tensor) -> Tensor:
    row = torch.arange(rows, device=seed.device)[:, None]
    counters = (torch.arange(-(-cols // 4), device=seed.device)[None], row & MASK, row >> 32, torch.zeros_like(row))
    return torch.stack(torch.broadcast_tensors(*philox(counters, seed)), -1).flatten(-2)[:, :cols]


def _torchs(rows: int, cols: int, seed: Tensor) -> Tensor:
    """The same words, as int32, from torch's own Philox: in a twentieth of the time, but not part of what torch promises to keep."""
    keys = torch.stack((seed.expand(rows), torch.arange(rows) << 32), -1)
    return torch._philox_randint_(torch.empty(rows, cols, dtype=torch.int32), keys.view(torch.uint64)[:, None])


@functools.cache
def _known() -> bool:
    """Whether this torch has it, and with our order of the words."""
    seed = torch.tensor(-(2**40) - 3)
    try:
        return torch.equal(_torchs(3, 9, seed).long() & MASK, _words(3, 9, seed))
    except (AttributeError, RuntimeError, TypeError):
        return False


def philox(counter: tuple[Tensor, ...], seed: int | Tensor) -> tuple[Tensor, ...]:
    """Philox4x32-10 on 32-bit words held in int64 tensors."""
    c0, c1, c2, c3 = counter
    k0, k1 = seed & MASK, (seed >> 32) & MASK
    for _ in range(10):
        low0, high0 = _multiply(0xD2511F53, c0)
        low1, high1 = _multiply(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def _multiply(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """Low and high word of a product of two words, all 64 bits of which an int64 holds, whatever its sign."""
    product = a * b
    return product & MASK, (product >> 32) & MASK


@dispatch.kernel("gumbel_softmax")
def fused_gumbel_softmax(x: Tensor, seed: Tensor, tau: float) -> Tensor:
    from . import gumbel_softmax_triton

    return gumbel_softmax_triton.forward(x, seed, tau)


@fused_gumbel_softmax.register_fake
def _(x, seed, tau):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _save(ctx, inputs, output):
    ctx.tau = inputs[2]
    ctx.save_for_backward(output)


def _backward(ctx, grad):
    (y,) = ctx.saved_tensors
    if torch.is_grad_enabled():  # a second derivative was asked for
        p, g = accumulator(y), accumulator(grad)
        return (p * (g - (p * g).sum(-1, keepdim=True)) / ctx.tau).to(y.dtype), None, None
    return family_backward(y, grad, 1 / ctx.tau, 0.0, "gumbel_softmax"), None, None


fused_gumbel_softmax.register_autograd(_backward, setup_context=_save)
dispatch.register("gumbel_softmax")
