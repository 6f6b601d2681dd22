"""Imported by the fork server before any job: what every job would import, once for all of them. Starts no thread and touches no GPU."""

import contextlib
import runpy

import torch
import torch.utils.serialization.config  # of torch.save

import runner.cli.main
import runner.execution.run
import runner.execution.worker
from runner.config import registry
from runner.config.bind import bind
from runner.config.schema import schema
from runner.execution.assemble import assemble
from runner.execution.record import commit

torch.set_num_threads(1)


def warm(components: list[tuple[str, str]], folders: list[str]) -> None:
    """Import components, (group, option) each; folders: the user's own with some."""
    for folder in folders:
        registry.add_folder(folder)
    for group, option in components:
        with contextlib.suppress(Exception):  # the job itself will say what is wrong with it
            registry.load(group, option)
            schema(group, option)


def rehearse() -> None:
    """One step of a small run, for what torch imports when it is first used, and for the digits, which are read once then."""
    chosen = {"data": "digits", "model": "linear", "loss": "ce", "learner": "supervised", "optimizer": "sgd", "schedule": "constant", "softmax": "softmax"}
    tree = {**chosen, "trainer": {"name": "standard", "duration": "1it"}, "eval": {"accuracy": {"name": "accuracy"}}, "device": "cpu", "threads": 1}
    with torch.random.fork_rng(devices=[]):
        assemble(bind(tree)).run()


rehearse()
commit()
__all__ = ["runner", "runpy", "warm"]  # multiprocessing runs the script `runner` again in every job
