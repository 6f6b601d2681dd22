r"""Answers of written solutions: what their last \boxed{} holds."""

import itertools
import re

BOX = re.compile(r"(?s)(.*)\\(?:boxed|fbox)\s*(.*)")


def last_box(text: str) -> tuple[str, str, str]:
    """What is before the last box of a text, in it, and behind it; nothing is in one that is not closed, and without one all is before it."""
    before, rest = (BOX.match(text) or BOX.match(text + r"\boxed")).groups()
    if not rest.startswith("{"):  # as in \boxed 5$
        inside, dollar, behind = rest.partition("$")
        return before, inside, dollar + behind
    depth = itertools.accumulate((sign == "{") - (sign == "}") for sign in rest)
    end = next((k for k, d in enumerate(depth) if not d), 0)
    return before, rest[1:end], rest[end + 1 if end else 0 :]


def plain(answer: str) -> str:
    """An answer without spaces, as answers are compared."""
    return "".join(answer.split())
