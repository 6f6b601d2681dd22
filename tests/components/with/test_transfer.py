"""Whose turn it is; nothing is drawn twice in a batch; a fresh optimizer for the target."""

import importlib

import pytest
import torch
from small import loop, part

from runner import UserError, contracts

transfer = importlib.import_module("runner.components.with.transfer")


def made(pretraining, finetuning, target):
    class Mark:
        def setup(self, state):
            state.data.train.side["target"] = target

    hook = part(transfer.build(pretraining, finetuning), "with/transfer", rung=transfer.CARD.rung)
    return loop(part(Mark(), "with/mark"), hook)


def test_source_first_then_target():
    target, seen = torch.arange(40) >= 35, []
    training = made("4it", "3it", target)
    optimizer = training.state.optimizer

    def look(now):
        seen.append(now.state.batch.i.tolist())
        assert (now.state.optimizer is optimizer) == (len(seen) <= 4)

    training.run(look)
    assert [len(rows) for rows in seen] == [8] * 4 + [5] * 3
    assert all(len(set(rows)) == len(rows) for rows in seen)
    assert all(k < 35 for rows in seen[:4] for k in rows)
    assert all(sorted(rows) == list(range(35, 40)) for rows in seen[4:])


def test_from_scratch_and_a_pool_that_is_empty():
    training, seen = made("0it", "2it", torch.arange(40) >= 35), []
    training.run(lambda now: seen.extend(now.state.batch.i.tolist()))
    assert set(seen) == set(range(35, 40))
    with pytest.raises(UserError, match="needs samples of the source"):
        made("4it", "3it", torch.zeros(40))


def test_held_out_samples_are_not_drawn():
    tree = contracts.config("with", "transfer", duration="10it")
    training = contracts.start({**tree, "with": {**tree["with"], "early_stopping": {"name": "early_stopping", "holdout": 0.5}}})
    held = next(c.object.held for c in training.components if c.name == "with/early_stopping")
    seen = []
    training.run(lambda now: seen.extend(now.state.batch.i.tolist()))
    assert seen
    assert not held[torch.tensor(seen)].any()
