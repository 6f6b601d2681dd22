"""As hopper.py, for the softmaxes of attention and samplers."""

import json

import hopper
import torch
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from runner import kernels
from runner.kernels import dispatch


def launch_everything(dtype):
    x = torch.empty(4, 4096, dtype=dtype, requires_grad=True)
    for f in (kernels.adaptive_softmax, kernels.self_adjust_softmax, kernels.stablemax):
        f(x).sum().backward()
    kernels.self_adjust_softmax(x, normalise=False).sum().backward()
    kernels.scalable_softmax(x, 0.4).sum().backward()
    kernels.sparse_topk_softmax(x, 8)
    kernels.top_n_sigma_softmax(x, 1.0)
    kernels.top_n_sigma_mask(x, 1.0)
    kernels.stablemax(torch.empty(4, 65536, dtype=dtype, requires_grad=True)).sum().backward()


if __name__ == "__main__":
    driver.set_active(hopper.Hopper())
    hopper.run, hopper.seen = JITFunction.run, set()
    JITFunction.run = hopper.compile_only
    dispatch.why_not = lambda op, x: None
    dispatch.backend("triton")
    launch_everything(torch.bfloat16)
    print(json.dumps(len(hopper.seen)))
