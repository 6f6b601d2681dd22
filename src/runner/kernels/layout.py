"""How tensors are brought to the form that the kernels take: the last dimension dense, the others as rows."""

import torch
from torch import Tensor


def accumulator(x: Tensor) -> Tensor:
    """`x` in the type in which sums are kept: float32, or float64 for float64."""
    return x if x.dtype in (torch.float32, torch.float64) else x.to(torch.promote_types(x.dtype, torch.float32))


def moved(x: Tensor, source: int, to: int) -> Tensor:
    """`x.movedim(source, to)`. On small rows even a call that does nothing takes time, twice with gradients."""
    return x if source == to else x.movedim(source, to)


def like(y: Tensor, x: Tensor) -> Tensor:
    """`y` in the dtype of `x`, which must be a float: integers would cut weights down to zero."""
    if y.dtype == x.dtype:
        return y
    if not x.is_floating_point():
        raise TypeError(f"the input must be of a float type, not {x.dtype}")
    return y.to(x.dtype)


def rowwise(v: Tensor, x: Tensor, dim: int, what: str) -> Tensor:
    """`v` so that it broadcasts against `x` with `dim` moved to the end, where its size must be 1."""
    v = v[(None,) * (x.ndim - v.ndim)].movedim(dim, -1)
    if v.shape[-1] != 1:
        raise ValueError(f"{what} must have size 1 along the dimension that sums to one, not {v.shape[-1]}")
    return v


def dense(x: Tensor) -> Tensor:
    """`x` as (rows, columns) with unit stride along the columns; a copy only where a view cannot be had."""
    x = x.reshape(-1, x.shape[-1])
    return x if x.stride(-1) == 1 or x.shape[-1] <= 1 else x.contiguous()


def broadcast_strides(x: Tensor) -> tuple[Tensor, list[int], list[int]]:
    """Three leading sizes and strides that address an expanded tensor's rows without materialising it.

    Neighbouring dimensions are merged where their strides allow; a tensor that keeps more than three is copied.
    """
    sizes, strides = [], []
    for size, stride in zip(x.shape[:-1], x.stride()[:-1], strict=True):
        if size == 1:
            continue
        if sizes and strides[-1] == stride * size:
            sizes[-1], strides[-1] = sizes[-1] * size, stride
        else:
            sizes.append(size)
            strides.append(stride)
    if len(sizes) > 3:
        return broadcast_strides(x.contiguous())
    pad = 3 - len(sizes)
    return x, sizes + [1] * pad, strides + [0] * pad  # last, as kernels divide the number of a row by all but the first size


WIDEST = 32768  # columns that one program holds in registers
CLUSTER = 1  # programs that hold a wider row together: up to 16 on Hopper with triton 3.9; 1, off, until it has been measured
SHARE = 16384  # columns of each of them
CHUNK = 32768  # bytes that a program loads at a time of a wider row
WARPS = 16  # of such a program: two fill a multiprocessor, so that few rows are under way and their second reads meet the cache
TILE = 4096  # elements that a program of narrower rows takes, at least
PROGRAMS = 264  # enough to fill a large GPU: two such programs on each of 132 multiprocessors


def power_of_two(n: int) -> int:
    """The least power of two that is not less than `n`."""
    return 1 << max(n - 1, 0).bit_length()


def tile(cols: int) -> tuple[int, int, int]:
    """Rows and columns of one program's tile, and its warps: 32 elements a thread."""
    width = power_of_two(cols)
    height = max(1, TILE // width)
    return height, width, height * width // 1024


def cluster(cols: int) -> int:
    """How many programs hold a row together; 0 where they cannot."""
    if cols <= WIDEST:
        return 1
    programs = power_of_two(cols) // SHARE
    return programs if programs <= CLUSTER else 0


def chunk(*loaded: Tensor) -> int:
    """Columns of a wide row that a program takes at a time, of all the tensors that it loads."""
    return power_of_two(CHUNK // sum(x.itemsize for x in loaded) // 2 + 1)


def group(*loaded: Tensor) -> int:
    """Neighbouring columns that a thread loads at once, 16 bytes of the widest type."""
    return 16 // max(x.itemsize for x in loaded)


def spans(rows: int, cols: int, chunk: int) -> tuple[int, int]:
    """Into how many programs a wide row is split so that the GPU is full, and how many columns each takes, a multiple of `chunk`."""
    chunks = -(-cols // chunk)
    each = -(-chunks // min(chunks, -(-PROGRAMS // rows)))
    return -(-chunks // each), each * chunk


DOUBLE = (torch.float64, torch.complex128, torch.int32, torch.int64)  # what float32 does not hold


def magnitude(x: Tensor, double: bool = False) -> Tensor:
    """Integers that order like |x|, with NaN above everything."""
    if not (x.is_floating_point() or x.is_complex()):
        x = x.double() if double or x.dtype in DOUBLE else x.float()  # whose least number has a magnitude
        return x.abs().view(torch.int64 if x.dtype == torch.float64 else torch.int32)
    if double or x.dtype in DOUBLE:
        return x.abs().double().view(torch.int64)
    return x.abs().float().view(torch.int32)


def fits(x: Tensor) -> str | None:
    """The limit of kernels that hold whole rows."""
    return f"rows of more than {WIDEST} columns" if x.ndim and x.shape[-1] > WIDEST else None
