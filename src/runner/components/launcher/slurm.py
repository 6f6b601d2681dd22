"""SLURM through submitit: jobs as arrays that the cluster queues; one that has to make room saves itself and is queued again."""

import math
import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

from runner import UserError, card
from runner.components.launcher._queue import ASK, Queue
from runner.components.launcher._requeued import Requeued, stoppable

CARD = card()
OUTAGE = 600.0  # seconds in which sbatch may refuse jobs, where it took others before and none runs
UNFIT = 70  # the status of a job that could not begin, or ran out of time too often; STORE/slurm says why


class Slurm:
    """See `runner.execution.pool` for what a launcher does. `options` are those of submitit's executor."""

    frozen = False  # a job imports the files as they are when it begins
    queues = True

    def __init__(self, cluster: str, parallel: int, requeues: int, options: dict):
        self.cluster, self.parallel, self.requeues, self.options = cluster, parallel, requeues, options
        self.executor, self.folder = None, None
        self.new: dict[str, tuple] = {}  # job -> arguments, not handed over yet
        self.jobs: dict[str, object] = {}  # job -> submitit's
        self.accepted, self.refused, self.asked = False, None, -math.inf  # whether sbatch ever took jobs; since when it takes none; when it was last asked
        self.withdrawn: list[str] = []
        self.killed: set[str] = set()  # SLURM's ids
        self.queue = Queue()

    def capacity(self, threads: int) -> int:
        return self.parallel if self.cluster == "slurm" else max(1, (os.cpu_count() or 1) // max(1, threads))

    def start(self, work, warm: str, components: list, folders: list[str], threads: int) -> None:
        if self.cluster == "slurm" and not all(map(shutil.which, ("sbatch", "srun", "squeue", "scancel"))):
            raise UserError("launcher=slurm: there is no sbatch here; run it on a login node, or try it with launcher.cluster=local")
        try:
            import submitit
        except ModuleNotFoundError:
            raise UserError("launcher=slurm needs submitit: pip install submitit") from None
        self.submitit, self.work, self.total = submitit, work, self.capacity(threads)
        self.options["cpus_per_task"] = self.options["cpus_per_task"] or max(1, threads)
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, threads)))  # jobs inherit it

    def prepare(self, warm: str) -> None:
        """A job imports for itself."""

    def expect(self, components: list, folders: list[str]) -> None:
        """See `prepare`."""

    def room(self) -> int:
        return self.total - len(self.new) - len(self.jobs)

    def submit(self, job: str, arguments: tuple) -> None:
        self.new[job] = arguments

    def ended(self, seconds: float) -> list[tuple[str, int]]:
        if self.new and time.monotonic() - self.asked >= ASK:
            self._hand_over()
        time.sleep(seconds)
        if self.cluster == "slurm":
            self.queue.look([found.job_id for found in self.jobs.values()])
        with suppress(OSError):
            self.folder.chmod(self.folder.stat().st_mode)  # has a network file system look again
        found = [(job, -signal.SIGTERM) for job in self.withdrawn]
        self.withdrawn.clear()
        found += [(job, status) for job in self.jobs if (status := self._status(self.jobs[job])) is not None]
        for job, _ in found:
            self.jobs.pop(job, None)
        return found

    def stop(self, job: str, kill: bool = False) -> None:
        if job in self.new:  # the cluster does not know of it
            del self.new[job]
            self.withdrawn.append(job)
            return
        found = self.jobs[job]
        if kill:
            self.killed.add(found.job_id)
        if kill or self.cluster == "local":
            found.cancel(check=False)
        else:
            self.queue.stop(found.job_id)

    def close(self) -> None:
        for job in self.jobs:
            self.stop(job, kill=True)

    def _hand_over(self) -> None:
        """Submit what is new as one array."""
        if self.executor is None:
            self.folder = Path(next(iter(self.new.values()))[2]) / "slurm"  # in the store, which all nodes see
            often = {f"{cluster}_max_num_timeout": self.requeues for cluster in ("slurm", "local")}
            self.executor = self.submitit.AutoExecutor(self.folder, cluster=self.cluster, **often)
            self.executor.update_parameters(**self.options)
        try:
            with stoppable(), self.executor.batch():
                handed = {job: self.executor.submit(Requeued(), self.work, *arguments) for job, arguments in self.new.items()}
        except self.submitit.core.utils.FailedJobError as error:
            self.asked = time.monotonic()
            self.refused = self.refused or self.asked
            if self.jobs or (self.accepted and self.asked - self.refused < OUTAGE):  # it does not answer now, or has a limit
                return
            said = str(error).strip().splitlines() or ["sbatch failed"]
            raise UserError(f"launcher=slurm: {said[-1]}") from error
        self.jobs.update(handed)
        self.new.clear()
        self.accepted, self.refused, self.asked = True, None, -math.inf

    def _status(self, found) -> int | None:
        """None while it waits or runs."""
        over = found.job_id in self.killed or (self.cluster == "local" and found.done())
        if found.paths.result_pickle.exists():
            return UNFIT if found.exception() else found.result()
        return -signal.SIGKILL if over else self.queue.end(found.job_id)


def build(
    partition: str | None = None, time: int = 60, memory: float | None = None, cpus: int | None = None, gpus: int = 0, account: str | None = None,
    sbatch: tuple[str, ...] = (), parallel: int = 256, notice: int = 120, requeues: int = 10, cluster: Literal["slurm", "local"] = "slurm",
):  # fmt: skip
    """Run on a SLURM cluster; the store must be on a file system that its nodes share.

    Args:
        partition: of the cluster; its default one if not given. Does not change the result.
        time: >= 1; minutes until a job saves itself and is queued again. Does not change the result.
        memory: > 0; GB of a job. Does not change the result.
        cpus: >= 1; cores of a job; by default its threads. Does not change the result.
        gpus: >= 0; GPUs of a job. Does not change the result.
        account: who pays. Does not change the result.
        sbatch: further options of sbatch, such as "qos=long", "constraint=a100" or "exclusive". Does not change the result.
        parallel: >= 1; jobs that wait or run on the cluster at once, the first of them as one array. Does not change the result.
        notice: >= 1; seconds before the end of its time at which a job is told. Does not change the result.
        requeues: >= 0; how often a job may run out of time. Does not change the result.
        cluster: `local` tries it with processes of this machine. Does not change the result.
    """
    further = {key: value or True for key, _, value in (option.partition("=") for option in sbatch)}
    options = {
        "name": "runner", "timeout_min": time, "mem_gb": memory, "cpus_per_task": cpus, "gpus_per_node": gpus or None, "slurm_partition": partition,
        "slurm_account": account, "slurm_array_parallelism": parallel, "slurm_signal_delay_s": notice,
        "slurm_additional_parameters": further or None,
    }  # fmt: skip
    return Slurm(cluster, parallel, requeues, options)
