"""Compiles every kernel launch for a Hopper GPU (sm_90) on a machine that needs none, and prints what ptxas made of it.

The interpreter takes programs that the compiler refuses. Here launches stop after compiling; outputs are never computed.
One line of JSON a kernel: module, name, arguments that were fixed, bytes of stack (registers that spilled live there) and of shared memory.
"""

import importlib
import json
import re
import subprocess
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from runner import kernels
from runner.kernels import dispatch

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
NAMES = ("rows", "softmax", "entmax", "cross_entropy", "nm_mask", "topk_mask", "masked_step", "softpick", "gumbel_softmax", "topk_softmax")
MODULES = [importlib.import_module(f"runner.kernels.{name}_triton") for name in NAMES]


class Hopper:
    """As much of a triton driver as compiling asks for."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


def entries(module):
    """The functions of a module that no other of its functions calls or hands on."""
    found = {name: f for name, f in vars(module).items() if isinstance(f, JITFunction) and f.fn.__module__ == module.__name__}
    return [name for name in found if not any(re.search(rf"\b{name}\b", f.src) for other, f in found.items() if other != name)]


def compile_only(self, *args, grid, warmup, **options):
    compiled = run(self, *args, grid=grid, warmup=True, **options)
    if compiled.hash not in seen:
        seen.add(compiled.hash)
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compiled.asm["cubin"])
            file.flush()
            usage = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
        stack = int(re.search(r"STACK:(\d+)", usage)[1])
        module = self.fn.__module__.rpartition(".")[2]
        clusters = "barrier.cluster" in compiled.asm["ptx"]
        facts = {"stack": stack, "shared": compiled.metadata.shared, "clusters": clusters}
        print(json.dumps({"module": module, "kernel": self.fn.__name__, "options": options, **facts}))
    return compiled


def launch_everything(dtype):
    for cols in (4096, 65536):
        x = torch.empty(4, cols, dtype=dtype, requires_grad=True)
        for f in (kernels.softmax, kernels.entmax15):
            f(x).sum().backward()
        kernels.softmax(x, mask=torch.empty(cols))
        labels = torch.zeros(4, dtype=torch.int64)
        kernels.cross_entropy(x, labels, weight=torch.empty(cols), label_smoothing=0.1).sum().backward()
        kernels.cross_entropy_with_gradient(x, torch.empty(4, cols, dtype=dtype))
        if cols == 4096:
            kernels.log_softmax(x).sum().backward()
            kernels.sparsemax(x).sum().backward()
            kernels.entmax(x, 3.0)
            kernels.entmax(x, torch.tensor(1.3, requires_grad=True)).sum().backward()
            kernels.softmax_plus_one(x, mask=torch.ones(cols, dtype=torch.bool), causal=True)
            kernels.softpick(x).sum().backward()
            kernels.gumbel_softmax(x, seed=1).sum().backward()
            for renormalise in (False, True):
                kernels.topk_softmax(x, 5, renormalise=renormalise)[0].sum().backward()
    if tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 9):
        kernels.layout.CLUSTER = 8
        for cols in (65536, 131072):
            kernels.softmax(torch.empty(4, cols, dtype=dtype, requires_grad=True)).sum().backward()
        kernels.layout.CLUSTER = 1
    kernels.topk_softmax(torch.empty(4, 32768, dtype=dtype), 5)  # a thread has 64 registers for 32 entries
    kernels.topk_softmax(torch.empty(4, 64, dtype=dtype), 64)  # there are as many groups of columns as entries that are kept
    w = torch.empty(64, 64, dtype=dtype, requires_grad=True)
    kernels.sr_ste(w, 2, 4).sum().backward()
    for n, m, dim in [(2, 4, 0), (4, 16, 1), (8, 32, 0)]:
        kernels.nm_prune(w, n, m, dim)
    kernels.topk_mask([w, torch.empty(10)], 9)
    tensors = [torch.empty(64, 64, dtype=dtype) for _ in range(4)]
    mask = torch.ones(64, 64, dtype=torch.bool)
    kernels.masked_sgd_(*tensors[:3], mask, lr=0.1, nesterov=True)
    kernels.masked_adamw_(*tensors, mask, step=1)


if __name__ == "__main__":
    triton.runtime.driver.set_active(Hopper())
    run, seen = JITFunction.run, set()
    JITFunction.run = compile_only
    dispatch.why_not = lambda op, x: None
    dispatch.backend("triton")
    launch_everything(torch.bfloat16)
    print(json.dumps([[module.__name__.rpartition(".")[2], name] for module in MODULES for name in entries(module)]))
