"""Packing of 2:4 sparse weights for sparse tensor cores: the kept values and two bits for each place, in the layout of torch.sparse's CUTLASS backend.

Values stand in the order of the row. Of each group of four the metadata has the places of the two that are kept, the lower first, in four
bits; for float32, of which one of two is kept, they address halves of 16 bits. Metadata words go along the groups of a row, and are
then interleaved in blocks of 32 rows (16 for int8) and 2 columns, with each block of 2 x 2 transposed: NVIDIA CUTLASS, reorder_meta in
host_reorder.h, and torch.sparse._semi_structured_conversions. The places come from the mask, so that a kept weight may be zero.
"""

import torch
from torch import Tensor

from . import dispatch

LEAST = {  # dtype: rows and columns that a weight needs, or multiples of them
    torch.float16: (32, 64),
    torch.bfloat16: (32, 64),
    torch.float32: (32, 32),
    torch.int8: (16, 128),
}


def semi_structured_pack(w: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Kept values (out, in / 2) in the dtype of `w`, and metadata of int16 (int32 for int8).

    Args:
        w: (out, in) of float16, bfloat16, int8, or float32. Multiples of 32 x 64, 16 x 128 for int8, 32 x 32 for float32.
        mask: boolean, of the shape of `w`, as nm_mask(w, 2, 4) makes it; nm_mask(w, 1, 2) for float32.
    """
    w = w.detach()
    group = _checked(w, mask)
    if dispatch.fused("semi_structured", w):
        return fused_semi_structured(w, mask)
    return _reference(w, mask, group)


def semi_structured_tensor(w: Tensor, mask: Tensor) -> Tensor:
    """A weight that torch multiplies with sparse tensor cores on a GPU, as to_sparse_semi_structured makes it. Arguments as `semi_structured_pack`.

    On GPUs other than of compute capability 8.x torch has no CUTLASS kernel, and cuSPARSELt packs in a layout of its own. On a CPU the tensor can
    be kept and made dense, not multiplied.
    """
    from torch.sparse import SparseSemiStructuredTensorCUTLASS, to_sparse_semi_structured

    if w.is_cuda and torch.cuda.get_device_capability(w.device)[0] != 8:
        _checked(w, mask)
        return to_sparse_semi_structured(w.detach().where(mask, 0).contiguous())
    values, meta = semi_structured_pack(w, mask)
    return SparseSemiStructuredTensorCUTLASS(w.shape, packed=values, meta=meta, packed_t=None, meta_t=None, compressed_swizzled_bitmask=None)


def _checked(w: Tensor, mask: Tensor) -> int:
    """Of how many weights half are kept."""
    if w.ndim != 2 or mask.shape != w.shape or mask.dtype != torch.bool:
        raise ValueError(f"a weight of two dimensions and a boolean mask of its shape, not {tuple(w.shape)} and {mask.dtype} {tuple(mask.shape)}")
    if w.dtype not in LEAST:
        raise ValueError(f"{w.dtype} has no 2:4 layout: use float16, bfloat16, int8 or float32")
    rows, cols = LEAST[w.dtype]
    if w.shape[0] % rows or w.shape[1] % cols or not w.numel():
        raise ValueError(f"a weight of {w.dtype} is packed in multiples of {rows} x {cols}, not {w.shape[0]} x {w.shape[1]}")
    keep, group = (1, 2) if w.dtype == torch.float32 else (2, 4)
    if not torch.compiler.is_compiling():  # where the count could not be asked for
        lanes = mask.view(torch.int8).unflatten(1, (-1, group)).unbind(-1)
        if not (sum(lanes[1:], lanes[0]) == keep).all():
            raise ValueError(f"{w.dtype} is packed with {keep} of every {group} weights of a row: use nm_mask(w, {keep}, {group})")
    return group


def _reference(w: Tensor, mask: Tensor, group: int) -> tuple[Tensor, Tensor]:
    lanes = mask.view(torch.uint8).unflatten(1, (-1, group)).unbind(-1)
    if group == 2:
        places, code = lanes[1][..., None], 10 * lanes[1] + 4  # halves 0 and 1, or 2 and 3
    else:
        low, high = (1 - lanes[0]) * (2 - lanes[1]), 3 - (1 - lanes[3]) * (2 - lanes[2])
        places, code = torch.stack((low, high), -1), low + 4 * high
    values = w.unflatten(1, (-1, group)).gather(-1, places.long()).flatten(1)
    words = (code[:, ::2] + 16 * code[:, 1::2]).contiguous().view(torch.int32 if w.dtype == torch.int8 else torch.int16)
    return values, _interleaved(words)


def _interleaved(words: Tensor) -> Tensor:
    """Row i * 8 + e of a block becomes e * (2 or 4) + i; then 2 x 2 blocks are transposed; then pairs of columns lie one after the other."""
    rows, cols = words.shape
    blocks = words.view(-1, 1 if words.dtype == torch.int32 else 2, 2, 8, cols // 2, 2)
    return blocks.permute(4, 0, 3, 1, 5, 2).reshape(rows, cols)


@dispatch.kernel("semi_structured")
def fused_semi_structured(w: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    from . import semi_structured_triton

    return semi_structured_triton.pack(w, mask)


@fused_semi_structured.register_fake
def _(w, mask):
    rows, cols = w.shape
    width = cols // (8 if w.dtype == torch.float32 else 16)
    return w.new_empty(rows, cols // 2), torch.empty(rows, width, dtype=torch.int16, device=w.device)


dispatch.register("semi_structured")
