"""How long, how large and how precise: the settings of the one loop."""

from typing import Literal

from runner import Duration, card
from runner.core.training import Training

CARD = card()


def build(
    duration: Duration = "60ep",
    batch_size: int = 64,
    eval_batch: int = 1024,
    accumulate: int = 1,
    clip: float | None = None,
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32",
    drop_last: bool = False,
    compile: bool = False,
    shard: bool = False,
    channels_last: bool = False,
    deterministic: bool = False,
    eval_every: Duration = "1ep",
    log_every: Duration = "1ep",
    probe_every: Duration = "10ep",
    checkpoint_every: float = 30.0,
    check_every: int = 50,
):
    """Training settings.

    Args:
        duration: length of the run, `80ep` or `500it`.
        batch_size: >= 1; samples in a step.
        eval_batch: >= 1; samples at once in an evaluation.
        accumulate: >= 1; pieces in which a batch is computed, to save memory; the gradient is that of the whole batch, except by what relates its samples
            to each other, such as batch norm, contrast or a selection of the smallest losses: that sees a piece at a time.
        clip: > 0; largest norm of the gradient, over all parameters together.
        precision: bf16 and fp16 by autocast, fp16 with loss scaling; tf32 lets matrix products round.
        drop_last: leave out the last, smaller batch of an epoch.
        compile: torch.compile the model.
        shard: share the weights out over the processes of torchrun (FSDP2), for models that do not fit one device. Does not change the result.
        channels_last: memory format of convolutional models.
        deterministic: refuse operations that are not deterministic on the GPU.
        eval_every: time between two evaluations.
        log_every: time between two rows of the training loss.
        probe_every: time between two measurements of the probes.
        checkpoint_every: >= 0; seconds between two checkpoints; 0 for each step. Does not change the result.
        check_every: >= 1; steps between two looks for NaN on a GPU; the CPU looks at each. Does not change the result.
    """
    return Training(**locals())
