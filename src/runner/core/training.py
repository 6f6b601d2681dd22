"""How to train: what the loop reads of a run's settings."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Training:
    """The option of group `trainer` builds it; meanings and ranges stand there."""

    duration: str
    batch_size: int
    eval_batch: int
    accumulate: int
    clip: float | None
    precision: str
    drop_last: bool
    compile: bool
    shard: bool
    channels_last: bool
    deterministic: bool
    eval_every: str
    log_every: str
    probe_every: str
    checkpoint_every: float
    check_every: int
