"""Which implementation of an operation runs, how often each ran, and why a Triton kernel cannot.

`auto` takes the Triton kernel for CUDA tensors and the reference elsewhere, `reference` and `triton` insist. The environment
variable RUNNER_KERNELS sets the first choice. Triton runs on CPU tensors only under TRITON_INTERPRET=1 (set before triton is imported).
"""

import functools
import os
import warnings
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

BACKENDS = ("auto", "reference", "triton")
FLOATS = (torch.float32, torch.bfloat16, torch.float16)

_choice = "auto"
_used: Counter[tuple[str, str, str]] = Counter()
_warned: set[tuple[str, str]] = set()
_limits: dict[str, Callable[[Tensor], str | None]] = {}
_triton_missing = find_spec("triton") is None


class backend:
    """`backend("triton")` sets the choice for the process; `with backend("triton"):` also puts the former one back."""

    def __init__(self, name: str):
        global _choice
        if name not in BACKENDS:
            raise ValueError(f"backend {name!r}: choose one of {', '.join(BACKENDS)}")
        self._before, _choice = _choice, name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        global _choice
        _choice = self._before


def chosen() -> str:
    """The current setting."""
    return _choice


def used() -> dict[tuple[str, str, str], int]:
    """Calls since the last `reset`, by (operation, backend, path). A compiled graph counts its Triton kernels, not its references."""
    return dict(_used)


def reset() -> None:
    """Forget the counts and which fallbacks were warned about."""
    _used.clear()
    _warned.clear()


def count(op: str, where: str, path: str) -> None:
    _used[op, where, path] += 1


def register(op: str, limit: Callable[[Tensor], str | None] = lambda x: None) -> str:
    """Declare an operation that has a Triton kernel; `limit` names what its kernel cannot take."""
    _limits[op] = limit
    return op


def ops() -> list[str]:
    """Every operation that has a Triton kernel."""
    return sorted(_limits)


def why_not(op: str, x: Tensor) -> str | None:
    """The reason why `op` has no Triton kernel for a tensor like `x`, or None where it has one."""
    if op not in _limits:
        raise KeyError(f"no operation {op!r}: {', '.join(ops())}")
    if _triton_missing:
        return "triton is not installed"
    if x.dtype not in FLOATS:
        return f"{x.dtype} (kernels take float32, bfloat16 and float16)"
    if x.device.type == "cpu":
        if os.environ.get("TRITON_INTERPRET") != "1":
            return "a CPU tensor (set TRITON_INTERPRET=1 before importing triton to interpret the kernels)"
    elif x.device.type != "cuda":
        return f"a {x.device.type} tensor"
    elif torch.version.hip is None and torch.cuda.get_device_capability(x.device) < (8, 0):
        return "a GPU older than compute capability 8.0"
    if transforming():  # also where it wraps another tensor of the call than `x`
        return "a tensor inside a torch.func transform"
    return _limits[op](x)


def transforming() -> bool:
    """Whether this runs inside a torch.func transform."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def fused(op: str, x: Tensor, refuse: str | None = None) -> bool:
    """Whether the Triton kernel runs for this call; `refuse` adds a reason that lies in the call's other arguments."""
    if _choice == "triton" or (_choice == "auto" and x.is_cuda):
        reason = why_not(op, x) or refuse
        if reason is None:
            return True
        if _choice == "triton":
            raise RuntimeError(f"{op}: no Triton kernel for {reason}")
        if not torch.compiler.is_compiling() and (op, reason) not in _warned:
            _warned.add((op, reason))
            warnings.warn(f"{op}: the reference runs instead of the Triton kernel, which does not take {reason}", stacklevel=3)
    if not torch.compiler.is_compiling():
        count(op, "reference", "torch")
    return False


def kernel(name: str, mutates: tuple[str, ...] = ()) -> Callable:
    """Make a function that launches kernels the operator `runner::name`, which torch.compile takes as it is.

    It runs with the device of its first argument (a tensor or a list of them) as the current one, where Triton launches.
    """

    def define(launch: Callable):
        @functools.wraps(launch)
        def guarded(first, *rest):
            with torch.cuda.device_of(first if isinstance(first, Tensor) else first[0]):
                return launch(first, *rest)

        return torch.library.custom_op(f"runner::{name}", guarded, mutates_args=mutates)

    return define


first_choice = os.environ.get("RUNNER_KERNELS") or "auto"
backend(first_choice)
