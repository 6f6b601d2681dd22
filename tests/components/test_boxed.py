"""The last box of a solution: nested braces, no braces, none, one that is not closed; and all of the text around it."""

import pytest

from runner.components._boxed import canonical, last_box


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


@pytest.mark.parametrize(
    ("answer", "spelled"),
    [
        (" \\frac{1} {2}\n", r"\frac{1}{2}"),
        (r"\dfrac12", r"\frac{1}{2}"),
        (r"\tfrac1{72}", r"\frac{1}{72}"),
        (r"\frac{72}1", r"\frac{72}1"),
        (r"-\frac\pi2", r"-\frac{\}{p}i2"),
        ("0.5", r"\frac{1}{2}"),
        (".5", r"\frac{1}{2}"),
        ("3/-14", r"\frac{3}{-14}"),
        ("3/04", "3/04"),
        ("1/2/3", "1/2/3"),
        ("1.5", "1.5"),
        ("( .5, x)", "(0.5,x)"),
        (r"\sqrt3+\sqrt{12}", r"\sqrt{3}+\sqrt{12}"),
        (r"\sqrt 3", r"\sqrt{}3"),
        (r"\left(x-2\right)\left( x+2 \right)", "(x-2)(x+2)"),
        (r"10\text{ square units}", "10"),
        (r"\text{even}", r"\text{even}"),
        (r"\$1,\!250", "1,250"),
        (r"45^\circ", "45"),
        (r"45^{\circ}", "45"),
        (r"20\%", "20"),
        ("x = 5", "5"),
        ("abc=5", "abc=5"),
        ("x=y=5", "x=y=5"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\2\end{pmatrix}"),
    ],
)
def test_one_spelling_of_an_answer(answer, spelled):
    """As `_strip_string` of hendrycks/math, modeling/math_equivalence.py, at 985bdc1, gives it: the second column was printed by it."""
    assert canonical(answer) == spelled
