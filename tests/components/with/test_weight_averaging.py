"""The mean of the weights at the marks; batch-norm statistics against those computed by hand; masks hold on the average."""

import importlib

import pytest
import torch
from small import loop, part, trained, weights
from torch import nn

module = importlib.import_module("runner.components.with.weight_averaging")
build, CARD = module.build, module.CARD


class Path:
    splits = ("test",)

    def __init__(self):
        self.steps, self.evaluated, self.buffers = [], [], []

    def step_end(self, state):
        self.steps.append(torch.cat([p.detach().flatten() for p in state.model.parameters()]))

    def measure(self, state, split):
        self.evaluated.append(torch.cat([p.detach().flatten() for p in state.model.parameters()]))
        self.buffers.append([b.clone() for b in state.model.buffers()])
        return {"zero": 0.0}


def run(*parts, start=0.5, every="1ep", eval_batch=64, **settings):
    path = Path()
    average = part(build(start, every), "with/weight_averaging", rung=CARD.rung)
    made = loop(average, part(path, "with/path", rung={"step_end": "mask"}), *parts, evaluators=[path], **settings)
    made.state.eval_batch = eval_batch
    made.run()
    return made, path


@pytest.mark.parametrize(("start", "every", "marks"), [(0.5, "1ep", [10, 15, 20]), (0.0, "7it", [1, 8, 15]), (0.9, "1it", [18, 19, 20]), (1.0, "1ep", [20])])
def test_the_mean_of_the_weights_at_the_marks(start, every, marks):
    made, path = run(start=start, every=every, duration="20it")
    assert torch.allclose(path.evaluated[-1], torch.stack([path.steps[m - 1] for m in marks]).mean(0), atol=1e-6)
    assert torch.equal(weights(made), path.steps[-1])


def test_before_the_start_the_weights_themselves_are_evaluated():
    _, path = run(start=0.5, duration="20it")
    assert torch.equal(path.evaluated[0], path.steps[4])


def test_training_goes_on_as_without_it():
    assert torch.equal(trained(part(build(0.2), "with/weight_averaging", rung=CARD.rung), duration="4ep"), trained(duration="4ep"))


def test_batch_norm_statistics_are_those_of_the_averaged_weights():
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    made, path = run(model=net, duration="20it")  # one batch holds all the 40 samples
    average = next(c.object for c in made.components if c.name == "with/weight_averaging").average
    hidden = made.state.data.train.x @ average["0.weight"].T + average["0.bias"]
    assert torch.allclose(path.buffers[-1][0], hidden.mean(0), atol=1e-5)
    assert torch.allclose(path.buffers[-1][1], hidden.var(0), atol=1e-5)
    assert net[1].momentum == 0.1
    own = made.state.model.state_dict()["1.running_mean"]
    assert not torch.allclose(own, path.buffers[-1][0], atol=1e-3)  # those of training came back


def test_small_batches_of_statistics_agree_with_torch():
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    made, path = run(model=net, duration="20it", eval_batch=8)
    average = next(c.object for c in made.components if c.name == "with/weight_averaging").average
    net.load_state_dict(average)
    seed = made.state.rng.derive("weight_averaging", 20)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    torch.optim.swa_utils.update_bn([made.state.data.train.x[rows] for rows in order.split(8)], net)
    assert torch.allclose(net[1].running_mean, path.buffers[-1][0], atol=1e-6)
    assert torch.allclose(net[1].running_var, path.buffers[-1][1], atol=1e-6)


def test_at_a_start_of_one_the_last_weights_keep_their_statistics():
    net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    made, path = run(model=net, start=1.0, duration="20it")
    assert all(torch.equal(a, b) for a, b in zip(path.buffers[-1], made.state.model.buffers(), strict=True))


def test_an_evaluation_leaves_the_statistics_of_a_training_that_began_anew():
    net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    made = loop(part(build(0.5), "with/weight_averaging", rung=CARD.rung), model=net, duration="10it", eval_every="100ep")
    made.state.eval_batch = 64

    def look(training):
        if training.state.step == 6:  # an average since step 5, not evaluated yet
            state = training.state
            state.load_weights(state.weights(), anew=True)
            before = state.weights()
            training.measures.measure(training, training.measures.evaluators)
            assert all(torch.equal(value, before[name]) for name, value in state.weights().items())

    made.run(look)


def test_masks_hold_on_the_average():
    g = torch.Generator().manual_seed(0)

    class Prune:
        def step_end(self, state):
            if state.step == 12:
                state.masks["0.weight"] = (torch.rand(8, 5, generator=g) < 0.5).float()

    made, path = run(part(Prune(), "sparsity/prune", rung={"step_end": "mask"}), duration="20it")
    closed = made.state.masks["0.weight"].flatten() == 0
    assert closed.any()
    assert not path.evaluated[-1][:40][closed].any()
    average = next(c.object for c in made.components if c.name == "with/weight_averaging").average["0.weight"].flatten()
    assert average[closed].any()
