"""The settings of a run that belong to no component. Their signatures are their schema, as for components."""

from pathlib import Path
from typing import Literal

from runner.config.schema import Schema, read


def run(
    seed: int = 0,
    device: str = "auto",
    threads: int = 1,
    scale: Literal["smoke", "mini", "paper"] = "mini",
    store: str | None = None,
    display: Literal["auto", "rich", "plain", "none"] = "auto",
    fresh: bool = False,
):
    """The run itself.

    Args:
        seed: >= 0; every random stream of the run is derived from it and from the name of its user.
        device: `auto`, `cpu`, `cuda` or `cuda:N`. Does not change the result.
        threads: in [0, 1024]; CPU threads of this process, 0 for torch's own choice; one is fastest for small models.
            Does not change the result.
        scale: the size of the experiment, as the recipe understands it; what it changes shows in the other keys.
            Does not change the result.
        store: folder of run records; RUNNER_STORE or `runs` if not given. Does not change the result.
        display: progress on the terminal; `auto` is `rich` on a terminal and `plain` elsewhere. Does not change the result.
        fresh: start again even if the run is done; the old record is kept aside. A run that was begun so and then stopped goes on.
            Does not change the result.
    """


def kernels(backend: Literal["auto", "reference", "triton"] = "auto"):
    """The fused operations.

    Args:
        backend: `auto` is what RUNNER_KERNELS says, else `triton` on a GPU where it can run; `reference` is plain torch; `triton` fails where
            it cannot run. Does not change the result.
    """


SECTIONS = {name: Schema("", name, Path(__file__), *read(Path(__file__), name)) for name in ("run", "kernels")}  # `run` is the root of the config
