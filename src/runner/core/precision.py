"""Mixed precision: autocast, and loss scaling for fp16 that allows several backward passes in a step."""

import contextlib

import torch

from runner.core.errors import NotFinite

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device):
    """A context maker for the forward pass; None for full precision, which then costs nothing."""
    if precision not in DTYPES:
        return contextlib.nullcontext
    return lambda: torch.autocast(device.type, DTYPES[precision])


class LossScale:
    """Dynamic loss scaling (Micikevicius et al. 2018, section 3.2): halve on overflow and skip the step, double after `window` good steps."""

    def __init__(self, enabled: bool, scale: float = 2.0**15, window: int = 2000):
        self.enabled, self.scale, self.window = enabled, scale if enabled else 1.0, window
        self.good, self.overflow = 0, False

    def unscale(self, parameters) -> None:
        """Divide the gradients by the scale and note whether any is not finite."""
        grads = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_div_(grads, self.scale)
        largest = torch.stack(torch._foreach_norm(grads, float("inf")))
        self.overflow = not bool(largest.isfinite().all())  # one wait for the device

    @property
    def least(self) -> bool:
        """Whether no smaller scale is left to try."""
        return self.scale == 1.0

    def check(self, step: int) -> None:
        """Raises NotFinite for gradients that are not finite at the least scale, though the loss is."""
        if self.overflow and self.least:
            raise NotFinite({"step": step, "component": "fp16", "samples": [], "value": "finite but its gradients are not"})

    def update(self) -> bool:
        """After a step's gradients: adapt the scale; whether the weights may be updated."""
        if self.overflow:
            self.scale, self.good = max(1.0, self.scale / 2), 0
            return False
        self.good += 1
        if self.good == self.window:
            self.scale, self.good = self.scale * 2, 0
        return True
