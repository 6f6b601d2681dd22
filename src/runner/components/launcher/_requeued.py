"""What a node of a SLURM cluster runs: a job that saves itself when it has to make room, and is queued again."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOPPED = 130  # the status of a job that was asked to stop


class Requeued:
    """`Requeued()(work, *arguments) -> status`, for submitit. A run goes on where it stopped when its turn comes again."""

    def __call__(self, work, *arguments) -> int:
        leave, asked = signal.getsignal(signal.SIGUSR2), []

        def ask(number, frame):
            asked.append(number)
            signal.raise_signal(signal.SIGINT)  # the run ends its step and saves itself

        signal.signal(signal.SIGUSR2, ask)  # SLURM's notice that the time is over, or the place is wanted
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been ignored
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # SLURM kills next, and knows whether to queue again
        try:
            status = work(*arguments)
        except KeyboardInterrupt:  # before it could say so itself
            status = STOPPED
        if status == STOPPED and asked:
            leave(signal.SIGUSR2)  # submitit's: keeps what `checkpoint` returns, queues it and ends this process
        return status

    def checkpoint(self, *arguments):
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


@contextmanager
def stoppable() -> Iterator[None]:
    """Processes that are started meanwhile hear SIGINT, by which submitit stops those of this machine; a shell lets what it starts with & ignore it."""
    ours = signal.getsignal(signal.SIGINT)
    if ours == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, ours)
