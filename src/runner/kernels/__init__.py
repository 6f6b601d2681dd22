"""Fused operations on rows and weights, each with a reference in plain torch.

from runner.kernels import softmax, sparsemax, dispatch
with dispatch.backend("triton"):
    y = softmax(x, mask=keep)
dispatch.used()  # {("softmax", "triton", "rows"): 1}
"""

from . import dispatch
from .adaptive_softmax import adaptive_softmax
from .cross_entropy import cross_entropy, cross_entropy_with_gradient
from .entmax import entmax, entmax15, sparsemax
from .gumbel_softmax import gumbel_softmax
from .masked_step import masked_adamw_, masked_sgd_
from .nm_mask import nm_mask, nm_prune, sr_ste
from .scalable_softmax import scalable_softmax
from .self_adjust_softmax import self_adjust_softmax
from .softmax import log_softmax, softmax, softmax_plus_one
from .softpick import softpick
from .sparse_topk_softmax import sparse_topk_softmax
from .stablemax import stablemax
from .top_n_sigma import top_n_sigma_mask, top_n_sigma_softmax
from .topk_mask import topk_mask
from .topk_softmax import topk_softmax

__all__ = [
    "adaptive_softmax",
    "cross_entropy",
    "cross_entropy_with_gradient",
    "dispatch",
    "entmax",
    "entmax15",
    "gumbel_softmax",
    "log_softmax",
    "masked_adamw_",
    "masked_sgd_",
    "nm_mask",
    "nm_prune",
    "scalable_softmax",
    "self_adjust_softmax",
    "softmax",
    "softmax_plus_one",
    "softpick",
    "sparse_topk_softmax",
    "sparsemax",
    "sr_ste",
    "stablemax",
    "top_n_sigma_mask",
    "top_n_sigma_softmax",
    "topk_mask",
    "topk_softmax",
]
