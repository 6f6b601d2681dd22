"""Copies of a run's metrics elsewhere. The record is the truth: a sink that fails is dropped with a word, and the run goes on."""

from collections.abc import Callable


class Sinks:
    """The chosen loggers.

    Args:
        sinks: objects with `start(record)`, `log(row)`, `finish(summary)` and `close()`, or None.
        say: where to say that a sink was dropped.
    """

    def __init__(self, sinks: list, record, say: Callable[[str], None]):
        self.sinks, self.say = [s for s in sinks if s is not None], say
        self._all("start", record)

    def log(self, row: dict) -> None:
        self._all("log", row)

    def finish(self, summary: dict) -> None:
        self._all("finish", summary)

    def close(self) -> None:
        self._all("close")

    def _all(self, method: str, *args) -> None:
        for sink in list(self.sinks):
            try:
                getattr(sink, method)(*args)
            except Exception as error:
                self.sinks.remove(sink)
                self.say(f"{type(sink).__name__} is dropped, the run goes on: {type(error).__name__}: {error}")
