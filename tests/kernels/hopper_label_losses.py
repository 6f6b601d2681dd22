"""As hopper.py, for the losses from labels and the losses of sparse softmaxes."""

import json
import sys

import hopper
import torch
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from runner import kernels
from runner.kernels import dispatch


def launch_everything(cols, dtype):
    x = torch.empty(4, cols, dtype=dtype, requires_grad=True)
    hard, soft = torch.zeros(4, dtype=torch.int64), torch.empty(4, cols, dtype=dtype)
    kernels.label_loss(x, hard, "nce", "mae").sum().backward()
    kernels.label_loss(x, hard, "gce", "maxsup", gradient=True)
    kernels.label_loss(x, soft, "nfl", "rce").sum().backward()
    kernels.clipped_cross_entropy(x, soft, p=3.0).sum().backward()
    kernels.clipped_cross_entropy(x, hard, p=float("inf"), gradient=True)
    kernels.ldr_loss(x, soft).sum().backward()
    kernels.bi_tempered_loss(x, soft).sum().backward()
    kernels.bi_tempered_loss(x, hard).sum().backward()


def launch_entmax(cols, dtype):
    x = torch.empty(4, cols, dtype=dtype, requires_grad=True)
    for alpha, t in (
        (1.5, torch.zeros(4, dtype=torch.int64)),
        (2.0, torch.empty(4, cols, dtype=dtype)),
        (1.25, torch.empty(4, cols)),
        (3.0, torch.empty(4, cols)),
    ):
        kernels.entmax_loss(x, t, alpha).sum().backward()


if __name__ == "__main__":
    driver.set_active(hopper.Hopper())
    hopper.run, hopper.seen = JITFunction.run, set()
    JITFunction.run = hopper.compile_only
    dispatch.why_not = lambda op, x: None
    dispatch.backend("triton")
    {"label": launch_everything, "entmax": launch_entmax}[sys.argv[1]](4096, torch.bfloat16)
    print(json.dumps(len(hopper.seen)))
