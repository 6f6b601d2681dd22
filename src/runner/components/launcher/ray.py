"""Ray: its scheduler places the jobs, each in a fresh process, on this machine or on a cluster."""

import os
import signal
import socket
import threading
from pathlib import Path

from runner import UserError, card

CARD = card()
STOPPED = 130  # the status of a job that was asked to stop
SOURCE = str(Path(__file__).resolve().parents[3])  # where `runner` is imported from


class Ray:
    """See `runner.execution.pool` for what a launcher does."""

    frozen = False  # a job imports the files as they are when it begins
    queues = True

    def __init__(self, address: str | None, cpus: float | None, gpus: float | None):
        self.address, self.cpus, self.gpus = address, cpus, gpus
        self.ray, self.own = None, False
        self.calls: dict[str, object] = {}  # job -> the future of its status

    def capacity(self, threads: int) -> int:
        self._connect()
        has = self.ray.cluster_resources()
        return int(min(has.get(name, 0) / need for name, need in self._needs(threads).items() if need))

    def start(self, work, warm: str, components: list, folders: list[str], threads: int) -> None:
        if not self.capacity(threads) and not self.address:
            raise UserError(f"no job ever fits here: it needs {self._needs(threads)}, this machine has {self.ray.cluster_resources()}")
        self.threads, needs = threads, self._needs(threads)
        path = os.pathsep.join(filter(None, (SOURCE, os.environ.get("PYTHONPATH"))))
        environment = {"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": str(max(1, threads))}}
        alone = {"max_calls": 1, "max_retries": 0}  # a process a job: one that dies costs itself alone
        self.work = self.ray.remote(num_cpus=needs["CPU"], num_gpus=needs["GPU"], runtime_env=environment, **alone)(work)

    def prepare(self, warm: str) -> None:
        """A job imports for itself."""

    def expect(self, components: list, folders: list[str]) -> None:
        """See `prepare`."""

    def room(self) -> int:
        queued = 1 if self.address else 0  # a cluster may grow for a job that waits
        return self.capacity(self.threads) + queued - len(self.calls)

    def submit(self, job: str, arguments: tuple) -> None:
        self.calls[job] = self.work.remote(*arguments)

    def ended(self, seconds: float) -> list[tuple[str, int]]:
        jobs = {call: job for job, call in self.calls.items()}
        self.ray.wait(list(jobs), num_returns=1, timeout=seconds)
        ready, _ = self.ray.wait(list(jobs), num_returns=len(jobs), timeout=0)
        return [(jobs[call], self._status(self.calls.pop(jobs[call]))) for call in ready]

    def stop(self, job: str, kill: bool = False) -> None:
        self.ray.cancel(self.calls[job], force=kill)  # without force: SIGINT's handler runs, which lets a run save itself

    def close(self) -> None:
        for job in self.calls:
            self.stop(job, kill=True)
        if self.own:
            self.ray.shutdown()

    def _needs(self, threads: int) -> dict[str, float]:
        gpus = min(1, self.ray.cluster_resources().get("GPU", 0)) if self.gpus is None else self.gpus
        return {"CPU": max(1, threads) if self.cpus is None else self.cpus, "GPU": gpus}

    def _connect(self) -> None:
        if self.ray:
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^A worker died or was killed")  # the sweep says it, in one line
        try:
            import ray
        except ModuleNotFoundError:
            raise UserError("launcher=ray needs Ray: pip install ray") from None
        self.ray, self.own = ray, not ray.is_initialized()
        if not self.own:
            return
        before = signal.getsignal(signal.SIGTERM)
        try:
            host, _, port = (self.address or "").removeprefix("ray://").rpartition(":")
            if port.isdigit():
                socket.create_connection((host, int(port)), 10).close()  # Ray itself tries for minutes
            ray.init(self.address or "local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError) as error:
            token = "; where the cluster asks for a token, RAY_AUTH_MODE=token sends yours" * ("RAY_AUTH_MODE" not in os.environ)
            raise UserError(f"launcher.address={self.address}: {str(error).splitlines()[0]}{token}") from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray takes it over, and the sweep's own is lost

    def _status(self, call) -> int:
        failures = self.ray.exceptions
        try:
            return self.ray.get(call)
        except failures.TaskCancelledError:
            return STOPPED
        except (failures.RayTaskError, failures.RuntimeEnvSetupError) as error:  # not even the import worked
            raise UserError(f"Ray cannot run a job: {str(error).strip().splitlines()[-1]}") from error
        except failures.RayError:
            return -signal.SIGKILL


def build(address: str | None = None, cpus: float | None = None, gpus: float | None = None):
    """Run on Ray.

    Args:
        address: a cluster, `HOST:PORT` or `auto` for the one that this machine belongs to; without one Ray is started here. Does not change the result.
        cpus: > 0; cores of a job; by default its threads. Does not change the result.
        gpus: >= 0; GPUs of a job, also parts of one; by default one where there are any. Does not change the result.
    """
    return Ray(address, cpus, gpus)
