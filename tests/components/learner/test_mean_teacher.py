import math

import pytest
import torch
from torch.nn import functional as F

from runner import contracts


def run(steps, **args):
    """A run's teacher, and the student's weights at the start and after each step."""
    loop = contracts.start(contracts.config("learner", "mean_teacher", args, duration=f"{steps}it"))
    students = [loop.state.weights()]
    loop.run(lambda loop: students.append(loop.state.weights()))
    return loop.components[0].object, students, loop.state


def test_teacher_is_the_arithmetic_mean_while_the_decay_is_large():
    teacher, students, _ = run(9, decay=0.999)
    for name, mean in teacher.teacher.items():
        assert torch.allclose(mean, torch.stack([s[name] for s in students]).mean(0), atol=1e-6)


def test_teacher_is_the_closed_form_of_the_running_average():
    """decay 0.5 holds from the first step on: 0.5^n theta_0 + sum_k 0.5^(n - k + 1) theta_k."""
    n = 8
    teacher, students, _ = run(n, decay=0.5)
    weights = [0.5**n] + [0.5 ** (n - k + 1) for k in range(1, n + 1)]
    assert sum(weights) == pytest.approx(1)
    for name, mean in teacher.teacher.items():
        assert torch.allclose(mean, sum(w * s[name] for w, s in zip(weights, students, strict=True)), atol=1e-6)


def test_the_teacher_predicts():
    teacher, _, state = run(6, decay=0.9)
    x = state.data.test.x[:20]
    outputs = teacher.predict(state, x)
    assert not torch.equal(outputs, state.model(x))
    state.load_weights(teacher.teacher)
    assert torch.equal(outputs, state.model(x))


@pytest.mark.parametrize(("step", "share"), [(0, math.exp(-5)), (20, math.exp(-5 / 4)), (40, 1.0), (90, 1.0)])
def test_loss_by_hand_along_the_ramp(step, share):
    loop = contracts.start(contracts.config("learner", "mean_teacher", {"weight": 7.0, "ramp": "40it", "sigma": 0.0}))
    state, teacher = loop.state, loop.components[0].object
    batch = state.data.train.fetch(torch.arange(5))
    teacher.compute(state, batch)
    teacher.teacher = {name: value + 0.1 for name, value in teacher.teacher.items()}
    state.step = step
    found = teacher.compute(state, batch)
    z = state.model(batch.x)
    p, q = z.softmax(1), teacher.predict(state, batch.x).softmax(1)
    by_hand = F.cross_entropy(z, batch.y, reduction="none") + 7 * share * F.mse_loss(p, q, reduction="none").mean(1)
    assert torch.allclose(found, by_hand, atol=1e-6)
    found.sum().backward()
    assert all(not w.requires_grad for w in teacher.teacher.values())


def test_masked_weights_stay_zero_in_the_teacher():
    loop = contracts.start(contracts.config("learner", "mean_teacher", duration="4it"))
    name = "1.weight"
    loop.state.masks[name] = (torch.arange(loop.state.weights()[name].numel()).view_as(loop.state.weights()[name]) % 2).float()
    loop.run()
    assert (loop.components[0].object.teacher[name][loop.state.masks[name] == 0] == 0).all()
