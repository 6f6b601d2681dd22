"""Lion: every weight moves by the learning rate, along the sign of a momentum; one buffer, half of Adam's memory."""

import torch

from runner import card
from runner.components.optimizer._eager import eager

CARD = card(paper="lion2023", arxiv="2302.06675", source="Chen et al. 2023, algorithm 2; authors' code google/automl lion/lion_pytorch.py")


class Lion(eager(torch.optim.Optimizer)):
    """Parameters as `build` documents them."""

    def __init__(self, params, lr, beta1, beta2, weight_decay):
        super().__init__(params, {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if not moving:
                continue
            for p in moving:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            grads, momenta = [p.grad for p in moving], [self.state[p]["momentum"] for p in moving]
            direction = torch._foreach_mul(momenta, group["beta1"])
            torch._foreach_add_(direction, grads, alpha=1 - group["beta1"])
            torch._foreach_sign_(direction)
            if group["weight_decay"]:
                torch._foreach_mul_(moving, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(moving, direction, alpha=-group["lr"])
            torch._foreach_mul_(momenta, group["beta2"])
            torch._foreach_add_(momenta, grads, alpha=1 - group["beta2"])
        return loss


def build(lr: float = 1e-4, beta1: float = 0.9, beta2: float = 0.99, weight_decay: float = 0.0):
    """w <- w - lr * (sign(beta1 m + (1 - beta1) g) + weight_decay * w), then m <- beta2 m + (1 - beta2) g.

    Args:
        lr: > 0; learning rate, 3 to 10 times smaller than AdamW's.
        beta1: in [0, 1); weight of the momentum in the direction.
        beta2: in [0, 1); memory of the momentum.
        weight_decay: >= 0; share lr * weight_decay by which every step shrinks the weights, 3 to 10 times larger than AdamW's.
    """
    return lambda parameters: Lion(parameters, lr, beta1, beta2, weight_decay)
