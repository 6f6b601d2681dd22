"""What components see of a run, and all that a checkpoint holds of it beside their own attributes."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from runner.core.clock import Clock
from runner.core.data import Batch, Data, Split
from runner.core.parallel import World
from runner.core.rng import Streams
from runner.core.sharding import load_module

CACHE = 2**27  # numbers (512 MiB of fp32): outputs of a split that are kept for all evaluators of one evaluation


class State:
    """The state of a run.

    Attributes:
        model: the network that is trained.
        loss: `(logits (..., C), target) -> losses (...)`.
        data: the splits and their `info`.
        device: where everything lives; world: the processes that share out each batch.
        optimizer: of all trainable parameters that no component's own has; optimizers: that and those of components, which the schedule drives all.
        step: optimizer steps taken; epoch: epochs finished; place: steps taken in the current epoch.
        phase: index of the current phase; begun: phases begun so far; restarts: how often training began anew.
        clock: `clock.epoch` steps in an epoch, `clock.total` in the run.
        batch: the batch of the current step.
        replay: whether the gradients of this step were computed before (an optimizer that looks twice).
        masks: parameter name of `model` -> 0/1 tensor of its shape; zeros stay zero whatever happens to the weights.
        per_sample: name -> tensor of n rows, one a training sample.
        metrics: the last measured value of each metric.
    """

    def __init__(self, model: nn.Module, loss: Callable, data: Data, device: torch.device, clock: Clock, optimizer: Callable, seed: int):
        self.model, self.loss, self.data, self.device, self.clock = model, loss, data, device, clock
        self.optimizer: torch.optim.Optimizer | None = None
        self.optimizers: list[torch.optim.Optimizer] = []
        self.step = self.epoch = self.place = self.phase = self.begun = self.restarts = 0
        self.batch: Batch | None = None
        self.replay = False
        self.masks: dict[str, Tensor] = {}
        self.per_sample: dict[str, Tensor] = {}
        self.metrics: dict[str, float] = {}
        self.predict: Callable[[Tensor], Tensor] = lambda x: self.model(x)
        self.rng, self.eval_batch, self.world = Streams(seed), 1024, World()
        self._optimizer = optimizer
        self._outputs: dict[int, list[Batch]] = {}

    @property
    def info(self):
        return self.data.info

    @property
    def progress(self) -> float:
        """The share of the run that is done, in [0, 1]."""
        return min(1.0, self.step / max(1, self.clock.total))

    def make_optimizer(self, parameters) -> torch.optim.Optimizer:
        """The run's optimizer over these parameters; the run's schedule will drive it."""
        optimizer = self._optimizer(list(parameters))
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        self.optimizers.append(optimizer)
        return optimizer

    def parameters(self) -> list[nn.Parameter]:
        """All parameters that some optimizer of the run updates."""
        return [p for o in self.optimizers for group in o.param_groups for p in group["params"]]

    @torch.no_grad()
    def enforce_masks(self) -> None:
        """Set the masked weights to zero. The loop calls it after every change of the weights that it knows of."""
        if self.masks:
            torch._foreach_mul_([self.model.get_parameter(name) for name in self.masks], list(self.masks.values()))

    def weights(self) -> dict[str, Tensor]:
        """A copy of the model's parameters and buffers."""
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    @torch.no_grad()
    def load_weights(self, weights: dict[str, Tensor], anew: bool = False) -> None:
        """Put weights into the model, in place; the masks hold afterwards. `anew`: training begins again, what averages remember counts no more."""
        self.restarts += anew
        mine = self.model.state_dict()
        for name, value in weights.items():
            mine[name].copy_(value)
        self.enforce_masks()
        self._outputs.clear()

    def predictions(self, split: Split) -> Iterator[Batch]:
        """All batches of a split with the model's outputs in `z`, in order, without gradients. Shared by all evaluators."""
        if id(split) in self._outputs:
            yield from self._outputs[id(split)]
            return
        kept, size = [], 0
        for batch in split.batches(torch.arange(len(split)), self.eval_batch, self.device):
            with torch.no_grad():  # not around the `yield`: it would hold for the caller too
                batch.z = self.predict(batch.x)
            size += batch.z.numel()
            if kept is not None:
                kept = [*kept, batch] if size <= CACHE else None
            yield batch
        if kept:
            self._outputs[id(split)] = kept

    def forget_predictions(self) -> None:
        self._outputs.clear()

    def state_dict(self) -> dict:
        counters = ("step", "epoch", "place", "phase", "begun", "restarts", "metrics", "masks", "per_sample")
        return {"rng": self.rng.state_dict(), "model": self.model.state_dict(), **{name: getattr(self, name) for name in counters}}

    def load_state_dict(self, saved: dict) -> None:
        saved = dict(saved)
        self.rng.load_state_dict(saved.pop("rng"), self.device)
        load_module(self.model, saved.pop("model"))
        tables = {name: {k: v.to(self.device) for k, v in saved[name].items()} for name in ("masks", "per_sample")}
        vars(self).update({**saved, **tables})
