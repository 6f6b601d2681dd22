"""The errors that a user is meant to read: one line, what to do about it, no traceback."""

import difflib


class UserError(Exception):
    """Bad input. The command prints its one line and exits with status 2."""


class Stopped(Exception):
    """The run was asked to stop (Ctrl-C, SIGTERM) and has saved itself."""


class NotFinite(Exception):
    """A loss became NaN or infinite.

    Attributes:
        record: what is known about it: `step`, `component`, `samples` (indices), `value`.
    """

    def __init__(self, record: dict):
        self.record = record
        samples = record["samples"]
        shown = ", ".join(map(str, samples[:8])) + (", ..." if len(samples) > 8 else "")
        super().__init__(f"loss is {record['value']} at step {record['step']}, first in {record['component']}, samples [{shown}]")


def nearest(name: str, known) -> str:
    """`; did you mean 'x'?` for the known name closest to `name`, else the known names, else nothing."""
    known = sorted(map(str, known))
    ending = [k for k in known if k.rpartition("/")[2] == str(name)]
    if close := ending or difflib.get_close_matches(str(name), known, n=1, cutoff=0.5):
        return f"; did you mean '{close[0]}'?"
    if not known:
        return ""
    return f"; known: {', '.join(known[:12])}" + (", ..." if len(known) > 12 else "")
