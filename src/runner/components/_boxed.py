r"""Answers of written solutions: what their last \boxed{} holds, and when two of them are the same."""

import itertools
import re

BOX = re.compile(r"(?s)(.*)\\(?:boxed|fbox)\s*(.*)")
# what does not count in an answer, and its one spelling, in this order
SPELLING = [
    (re.compile(pattern), by)
    for pattern, by in (
        (r"\n|\\!", ""),
        (r"\\\\", r"\\"),
        (r"[td]frac", "frac"),
        (r"\\left|\\right", ""),
        (r"\^\{\\circ\}|\^\\circ|\\\$", ""),
        (r"\\text\{ .*", ""),  # a unit
        (r"\\%", ""),
        (r"( |\{|^)\.", r"\g<1>0."),
        (r"^[^=]{0,2}=([^=]*)$", r"\1"),  # x = 5
        (r"\\sqrt([^{])", r"\\sqrt{\1}"),
        (r"\s", ""),
        (r"\\frac([^{])([^{])", r"\\frac{\1}{\2}"),
        (r"\\frac([^{])\{", r"\\frac{\1}{"),
        (r"^0\.5$", r"1/2"),
        (r"^(0|-?[1-9]\d*)/(0|-?[1-9]\d*)$", r"\\frac{\1}{\2}"),
    )
]


def last_box(text: str) -> tuple[str, str, str]:
    """What is before the last box of a text, in it, and behind it; nothing is in one that is not closed, and without one all is before it."""
    before, rest = (BOX.match(text) or BOX.match(text + r"\boxed")).groups()
    if not rest.startswith("{"):  # as in \boxed 5$
        inside, dollar, behind = rest.partition("$")
        return before, inside, dollar + behind
    depth = itertools.accumulate((sign == "{") - (sign == "}") for sign in rest)
    end = next((k for k, d in enumerate(depth) if not d), 0)
    return before, rest[1:end], rest[end + 1 if end else 0 :]


def canonical(answer: str) -> str:
    r"""An answer as it is compared: \dfrac12, 0.5 and 1/2 are \frac{1}{2}; spaces, units, degrees and `x =` do not count.

    Source: MATH's own rules, hendrycks/math, modeling/math_equivalence.py. There answers with two units, or a root of nothing, are compared as they are
    written, and so are fractions of less than two things.
    """
    for pattern, by in SPELLING:
        answer = pattern.sub(by, answer)
    return answer
