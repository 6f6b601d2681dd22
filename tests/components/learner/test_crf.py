"""The partition function, the loss and the decoding against all sequences of length 4, one by one."""

import itertools

import pytest
import torch
from small import loop, part

from runner.components.learner.crf import Chain, build
from runner.core.targets import soft


@pytest.fixture
def chain():
    made = Chain(3)
    for k, p in enumerate((made.start, made.end, made.moves)):
        torch.nn.init.normal_(p, generator=torch.Generator().manual_seed(k))
    return made.requires_grad_(False).double()


def scores(chain, z):
    """Of every sequence of tags for one z (4, 3)."""
    for tags in itertools.product(range(3), repeat=len(z)):
        moves = sum(chain.moves[a, b] for a, b in itertools.pairwise(tags))
        yield tags, float(chain.start[tags[0]] + chain.end[tags[-1]] + moves + sum(z[t, tag] for t, tag in enumerate(tags)))


@pytest.mark.parametrize("length", [1, 4])
def test_against_all_sequences(chain, length):
    z = 2 * torch.randn(5, length, 3, generator=torch.Generator().manual_seed(0)).double()
    for b in range(5):
        every = dict(scores(chain, z[b]))
        assert chain.log_z(z)[b].item() == pytest.approx(torch.tensor(list(every.values())).double().logsumexp(0).item())
        assert tuple(chain.best(z)[b].argmax(-1).tolist()) == max(every, key=every.get)
        for t, tag in itertools.product(range(length), range(3)):
            assert chain.best(z)[b, t, tag].item() == pytest.approx(max(s for tags, s in every.items() if tags[t] == tag))
        for tags in list(every)[:9]:
            assert chain.score(z[b : b + 1], soft(torch.tensor([tags]), 3, torch.double)).item() == pytest.approx(every[tags])


def test_the_loss_is_the_negative_log_likelihood_of_a_position_and_learns_moves():
    """Inputs say nothing; tags alternate: only the moves can tell."""

    class Silent(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.out = torch.nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return self.out.expand(len(x), x.shape[1], 3)

    learner = build()
    training = loop(learner=part(learner, "learner/crf"), model=Silent(), duration="40ep", lr=0.5, evaluators=[])
    state = training.state
    train = state.data.train
    train.y = (torch.arange(5) + torch.arange(len(train))[:, None] % 2) % 2
    learner.setup(state)  # tags are those of the new labels
    training.renew_optimizer()
    assert learner.tags == 2
    assert learner.compute(state, train.fetch(torch.arange(4))).tolist() == pytest.approx([torch.tensor(2.0).log().item()] * 4)
    training.measures.evaluators = []
    training.run()
    loss = learner.compute(state, train.fetch(torch.arange(40))).mean().item()
    assert loss == pytest.approx(torch.tensor(2.0).log().item() / 5, abs=0.03)  # one bit a sequence: where it starts
    path = learner.predict(state, train.fetch(torch.arange(1)).x)[0].argmax(-1).tolist()
    assert path in ([0, 1, 0, 1, 0], [1, 0, 1, 0, 1])
