"""The trail: what the last steps' losses were made of, so that a NaN is reported with its step, component and samples.

The CPU looks at every step before the weights move; a GPU every `every` steps, so that it need not wait for each.
"""

import math

import torch

from runner.core.errors import NotFinite


class Trail:
    def __init__(self, every: int):
        self.every = every
        self.parts: list = []
        self.steps: list = []
        self.total, self.count = 0.0, 0

    def add(self, component: str, value: torch.Tensor, rows: torch.Tensor) -> None:
        """Note a part of the current step's loss: per-sample losses or a penalty."""
        self.parts.append((component, value.detach(), rows))

    def close(self, step: int, loss: torch.Tensor) -> None:
        """End of a step's gradients. Raises NotFinite."""
        self.steps.append((step, loss, self.parts))
        self.parts = []
        if len(self.steps) >= self.every:
            self.flush()

    def flush(self) -> None:
        steps, self.steps = self.steps, []
        losses = [steps[0][1].item()] if len(steps) == 1 else torch.stack([s[1] for s in steps]).tolist() if steps else []
        for (step, _, parts), value in zip(steps, losses, strict=True):
            if not math.isfinite(value):
                raise NotFinite(blame(step, value, parts))
            self.total += value
            self.count += 1

    def mean(self) -> float | None:
        """Mean loss since the last call."""
        self.flush()
        value = self.total / self.count if self.count else None
        self.total, self.count = 0.0, 0
        return value


def blame(step: int, value: float, parts: list) -> dict:
    """The first part that is not finite, and its samples."""
    record = {"step": step, "component": "the mean over the batch", "samples": [], "value": repr(value)}
    for component, part, rows in parts:
        bad = ~torch.isfinite(part)
        if bad.any():
            rows = rows[bad.reshape(len(rows), -1).any(1)] if part.dim() and len(part) == len(rows) else rows
            return record | {"component": component, "samples": rows.tolist()}
    return record
