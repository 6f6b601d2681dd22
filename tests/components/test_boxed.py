"""The last box of a solution: nested braces, no braces, none, one that is not closed; and all of the text around it."""

import pytest

from runner.components._boxed import last_box, plain


@pytest.mark.parametrize(
    ("text", "before", "inside", "behind"),
    [
        (r"so \boxed{1} or \boxed{ 2 } .", r"so \boxed{1} or ", " 2 ", " ."),
        (r"\boxed{\text{a {b} c}}}", "", r"\text{a {b} c}", "}"),
        (r"is $\boxed 7$ {x}", "is $", "7", "$ {x}"),
        (r"ends \boxed 7", "ends ", "7", ""),
        (r"a \fbox{3}", "a ", "3", ""),
        ("two\nlines \\boxed\n{3\n}\n.", "two\nlines ", "3\n", "\n."),
        ("none", "none", "", ""),
        (r"\boxed{1} \boxed{3", r"\boxed{1} ", "", "{3"),
    ],
)
def test_the_last_box(text, before, inside, behind):
    assert last_box(text) == (before, inside, behind)


def test_answers_are_compared_without_spaces():
    assert plain(" \\frac{1} {2}\n") == r"\frac{1}{2}"
