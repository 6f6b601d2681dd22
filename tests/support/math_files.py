"""Problems in MATH's files."""

import json


def write(root, made):
    """`SPLIT/SUBJECT/NUMBER` -> problem, level and solution."""
    for name, (problem, level, solution) in made.items():
        file = root / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"problem": problem, "level": f"Level {level}", "type": "Algebra", "solution": solution}))
    return root


def many(root, n=60):
    """Problems with three steps and an answer each."""
    steps = lambda i: " ".join(f"Step {j + 10} gives {i + j}." for j in range(3))
    made = {f"train/algebra/{i}": (f"Task {i}", 5, f"Let us see. {steps(i)} Hence \\boxed{{{i}}}") for i in range(n)}
    return write(root, made | {"test/algebra/1": made["train/algebra/1"]})
