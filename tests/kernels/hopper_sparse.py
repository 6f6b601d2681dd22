"""As hopper.py, for the operations on sparse weights."""

import json

import hopper
import torch
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from runner import kernels
from runner.kernels import dispatch
from runner.kernels.semi_structured import fused_semi_structured


def launch_everything(dtype):
    x, w, bias = (torch.empty(shape, dtype=dtype, requires_grad=True) for shape in [(512, 256), (1024, 256), (1024,)])
    mask = torch.ones(1024, 256, dtype=torch.bool)
    for together in (False, True):
        kernels.drop_grow_([w, torch.empty(10)], [mask, torch.ones(10)], [torch.empty_like(w), torch.empty(10)], 0.3, together=together)
    for rows in (1, 512):
        kernels.masked_linear(x[:rows], w, mask, bias).sum().backward()
    b, a, values = (torch.empty(shape, dtype=dtype, requires_grad=True) for shape in [(1024, 32), (32, 256), (999,)])
    kernels.sparse_low_rank_linear(x, b, a, values, torch.arange(999), bias).sum().backward()
    fused_semi_structured(w.detach(), mask)  # below the check of the mask, whose values do not exist here


if __name__ == "__main__":
    driver.set_active(hopper.Hopper())
    hopper.run, hopper.seen = JITFunction.run, set()
    JITFunction.run = hopper.compile_only
    dispatch.why_not = lambda op, x: None
    dispatch.backend("triton")
    for dtype in (torch.bfloat16, torch.float32):
        launch_everything(dtype)
    print(json.dumps(len(hopper.seen)))
