"""Fused operations on rows and weights, each with a reference in plain torch.

from runner.kernels import softmax, sparsemax, dispatch
with dispatch.backend("triton"):
    y = softmax(x, mask=keep)
dispatch.used()  # {("softmax", "triton", "rows"): 1}
"""

from . import dispatch
from .adaptive_softmax import adaptive_softmax
from .cross_entropy import cross_entropy, cross_entropy_with_gradient
from .drop_grow import drop_grow_
from .entmax import entmax, entmax15, sparsemax
from .entmax_loss import entmax_loss, sparsemax_loss
from .gumbel_softmax import gumbel_softmax
from .label_losses import bi_tempered_loss, clipped_cross_entropy, label_loss, ldr_loss
from .linear_cross_entropy import linear_cross_entropy, linear_logsumexp
from .masked_linear import masked_linear
from .masked_step import masked_adamw_, masked_sgd_
from .nm_mask import nm_mask, nm_prune, sr_ste
from .partial_fc import partial_fc
from .sampled_softmax import draw_classes, sampled_softmax
from .scalable_softmax import scalable_softmax
from .self_adjust_softmax import self_adjust_softmax
from .semi_structured import semi_structured_pack, semi_structured_tensor
from .softmax import log_softmax, softmax, softmax_plus_one
from .softpick import softpick
from .sparse_low_rank import sparse_low_rank_linear
from .sparse_topk_softmax import sparse_topk_softmax
from .stablemax import stablemax
from .top_n_sigma import top_n_sigma_mask, top_n_sigma_softmax
from .topk_mask import topk_mask
from .topk_softmax import topk_softmax

__all__ = [
    "adaptive_softmax",
    "bi_tempered_loss",
    "clipped_cross_entropy",
    "cross_entropy",
    "cross_entropy_with_gradient",
    "dispatch",
    "draw_classes",
    "drop_grow_",
    "entmax",
    "entmax15",
    "entmax_loss",
    "gumbel_softmax",
    "label_loss",
    "ldr_loss",
    "linear_cross_entropy",
    "linear_logsumexp",
    "log_softmax",
    "masked_adamw_",
    "masked_linear",
    "masked_sgd_",
    "nm_mask",
    "nm_prune",
    "partial_fc",
    "sampled_softmax",
    "scalable_softmax",
    "self_adjust_softmax",
    "semi_structured_pack",
    "semi_structured_tensor",
    "softmax",
    "softmax_plus_one",
    "softpick",
    "sparse_low_rank_linear",
    "sparse_topk_softmax",
    "sparsemax",
    "sparsemax_loss",
    "sr_ste",
    "stablemax",
    "top_n_sigma_mask",
    "top_n_sigma_softmax",
    "topk_mask",
    "topk_softmax",
]
