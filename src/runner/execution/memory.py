"""What the C library does with the memory that tensors on the CPU give back."""

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT = 2**30  # bytes


def keep_memory() -> None:
    """Let glibc keep up to a gigabyte that is free: it would return large tensors to the system at once, which clears each page of the next.

    Every step asks for the same tensors again. A ResNet-32 takes 0.7 to 0.8 of the time on one core, and a quarter more memory. What the
    environment says (MALLOC_TRIM_THRESHOLD_, GLIBC_TUNABLES) goes first; other C libraries stay as they are.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, KEPT)
        mallopt(MMAP_THRESHOLD, KEPT)
