"""Cases of `bench_kernels.py` for the losses from labels and of sparse softmaxes, and what one would write in torch for them."""

from collections.abc import Callable, Iterator

import kernel_peers as P
import torch
import torch.nn.functional as F
from torch import Tensor

from runner import kernels as K


def own(values: Tensor, t: Tensor) -> Tensor:
    return values.gather(-1, t[:, None])[:, 0]


def gce(x: Tensor, t: Tensor) -> Tensor:
    return (1 - own(x.float().softmax(-1), t) ** 0.7) / 0.7


def nce_mae(x: Tensor, t: Tensor) -> Tensor:
    log_p = x.float().log_softmax(-1)
    return own(log_p, t) / log_p.sum(-1) + 1 - own(log_p.exp(), t)


def sce(x: Tensor, t: Tensor) -> Tensor:
    reverse = -(x.float().softmax(-1) * F.one_hot(t, x.shape[-1]).float().clamp_min(1e-4).log()).sum(-1)
    return 0.1 * F.cross_entropy(x.float(), t, reduction="none") + reverse


def nfl(x: Tensor, t: Tensor) -> Tensor:
    log_p = x.float().log_softmax(-1)
    focal = -((1 - log_p.exp()) ** 2) * log_p
    return own(focal, t) / focal.sum(-1)


def maxsup(x: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(x, t, reduction="none") + 0.1 * (x.amax(-1) - x.mean(-1))


def clipped(x: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(x / x.norm(dim=-1, keepdim=True).clamp_min(1), t, reduction="none")


def ldr(x: Tensor, t: Tensor) -> Tensor:
    z = F.softplus(x.float())
    z = z / z.mean(-1, keepdim=True)
    return 10 * ((z + 0.1 * (1 - F.one_hot(t, x.shape[-1]))) / 10).logsumexp(-1) - own(z, t)


def bi_tempered(x: Tensor, t: Tensor) -> Tensor:
    exp_t = lambda u: (1 - 0.2 * u) ** -5
    with torch.no_grad():
        shifted = scaled = x.float() - x.float().amax(-1, keepdim=True)
        for _ in range(5):
            scaled = shifted * exp_t(scaled).sum(-1, keepdim=True) ** -0.2
        total = exp_t(scaled).sum(-1, keepdim=True)
    p = exp_t(x.float() - x.detach().float().amax(-1, keepdim=True) - (1 - total**0.2) / -0.2)
    p = p / p.sum(-1, keepdim=True)
    return (1 - own(p, t) ** 0.2) / 0.2 - (1 - (p**1.2).sum(-1)) / 1.2


def entmax_loss(x: Tensor, t: Tensor) -> Tensor:
    p, y = P.entmax15(x.float()), F.one_hot(t, x.shape[-1])
    return ((p - y) * x).sum(-1) + (1 - (p * p.sqrt()).sum(-1)) / 0.75


def sparsemax_loss(x: Tensor, t: Tensor) -> Tensor:
    p, y = P.sparsemax(x.float()), F.one_hot(t, x.shape[-1])
    return ((p - y) * x).sum(-1) + (1 - p.square().sum(-1)) / 2


LOSSES: dict[str, tuple[Callable, Callable]] = {
    "label_loss_gce": (lambda x, t: K.label_loss(x, t, "gce"), gce),
    "label_loss_nce_mae": (lambda x, t: K.label_loss(x, t, "nce", "mae"), nce_mae),
    "label_loss_sce": (lambda x, t: K.label_loss(x, t, "ce", "rce", alpha=0.1), sce),
    "label_loss_nfl": (lambda x, t: K.label_loss(x, t, "nfl"), nfl),
    "label_loss_maxsup": (lambda x, t: K.label_loss(x, t, "ce", "maxsup", beta=0.1), maxsup),
    "clipped_cross_entropy": (K.clipped_cross_entropy, clipped),
    "ldr_loss": (K.ldr_loss, ldr),
    "bi_tempered_loss": (K.bi_tempered_loss, bi_tempered),
    "entmax_loss": (K.entmax_loss, entmax_loss),
    "sparsemax_loss": (K.sparsemax_loss, sparsemax_loss),
}


def entmax_package() -> dict[str, Callable]:
    try:
        from entmax.losses import Entmax15Loss, SparsemaxLoss
    except ImportError:
        return {}
    return {"entmax_loss": Entmax15Loss(reduction="none"), "sparsemax_loss": SparsemaxLoss(reduction="none")}


def cases(case: type, shape: tuple[int, int], dtype: torch.dtype, device: str) -> Iterator:
    """Hard targets; the sparse losses write their gradient forward and scale it backward."""
    rows, cols = shape
    if cols > K.layout.WIDEST // 4:  # wider rows are left to the log-softmax or the reference
        return
    n = rows * cols * dtype.itemsize
    make = lambda: (torch.randn(shape, device=device, dtype=dtype).requires_grad_(), torch.randint(cols, (rows,), device=device))
    for op, (ours, eager) in LOSSES.items():
        yield case(op, shape, dtype, make, ours, {"eager": eager}, n + 12 * rows, 2 * n + 12 * rows)
