"""The exponential that kernels take, and what stands for the maximum of a row that has none."""

import triton
import triton.language as tl


@triton.jit
def exp(x, scale=1.0):
    """exp(scale x), 0 below 2^-126: two instructions where tl.exp has five."""
    return tl.exp2(x * (scale * 1.4426950408889634))


@triton.jit
def finite(top):
    """A row's maximum, 0 in a row of -inf: what its scores are counted from."""
    return tl.where(top == float("-inf"), 0.0, top)
