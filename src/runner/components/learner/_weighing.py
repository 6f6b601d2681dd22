"""Learners with a small network that weighs losses: it takes a step of its own Adam before each step of the model."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from runner import UserError


@contextmanager
def twice() -> Iterator[None]:
    """What is differentiated within is differentiated again; some layers, such as EmbeddingBag, have no such derivative. Raises UserError for these."""
    try:
        yield
    except RuntimeError as error:  # NotImplementedError is one
        if "derivative for" not in str(error):
            raise
        raise UserError(f"the learner differentiates the model twice, which one of its layers does not allow ({error}); choose another model") from error


class Weighing:
    """`learn` computes the slopes of the network's weights and gives them to `descend`."""

    def begin(self, state, network, lr: float, weight_decay: float) -> None:
        self.network, self.lr = network.to(state.device), lr
        self.adam = torch.optim.Adam(self.network.parameters(), lr, weight_decay=weight_decay)
        self.adam.param_groups[0]["initial_lr"] = lr
        state.per_sample["selected"] = torch.ones(len(state.data.train), device=state.device)

    def step(self, state, grads, apply):
        def learn_then_weigh():
            if not state.replay:
                with twice():
                    self.learn(state)
            return grads()

        return learn_then_weigh, apply

    def descend(self, slopes) -> None:
        for p, g in zip(self.network.parameters(), slopes, strict=True):
            p.grad = g
        self.adam.param_groups[0]["lr"] = self.lr  # the schedule is the model's alone
        self.adam.step()


def tensors(model) -> tuple[dict, dict]:
    """What is trained of a model, and a copy of its buffers, so that virtual steps leave running statistics alone."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}, {name: b.clone() for name, b in model.named_buffers()}


def moved(trained: dict, loss, lr: float, masks: dict) -> dict:
    """The weights after a virtual step down the loss, through which gradients go; masked ones do not move, as in a step of the run."""
    slopes = torch.autograd.grad(loss, list(trained.values()), create_graph=True, allow_unused=True)
    after = {name: p if g is None else p - lr * g for (name, p), g in zip(trained.items(), slopes, strict=True)}
    return after | {name: after[name] * mask for name, mask in masks.items() if name in after}
