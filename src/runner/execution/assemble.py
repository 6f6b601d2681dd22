"""From a checked config to a loop that is ready to run."""

import os
from collections.abc import Callable

import torch

from runner.config import registry
from runner.config.bind import Choice, Config, bind
from runner.config.schema import schema
from runner.core.clock import Clock, steps
from runner.core.data import Info
from runner.core.errors import UserError
from runner.core.events import Component
from runner.core.loop import Loop
from runner.core.measure import Measures
from runner.core.parallel import World
from runner.core.rng import derive, seed_torch
from runner.core.state import State
from runner.execution.memory import keep_memory


def component(choice: Choice) -> Component:
    return Component(choice.name, choice.build(), choice.schema.card)


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one; under torchrun `cuda` is the process's own. Raises UserError for a GPU that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device={name!r} is not valid; it takes auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device={name!r} is not valid; it takes auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device={name}: there are {torch.cuda.device_count()} CUDA devices here; use device=cpu or device=auto")
    return device


def check_fit(config: Config, info: Info) -> None:
    """Raises UserError where a component is for another kind of task or input than the data."""
    data = config.one("data").name
    for choice in config.choices:
        card = choice.schema.card
        if card.tasks and info.task not in card.tasks:
            raise UserError(f"{choice.name} is for {' and '.join(card.tasks)}; {data} is {info.task}")
        if card.images and len(info.shape) != 3:
            raise UserError(f"{choice.name} is for images; {data} has inputs of shape {info.shape}")
        if choice.group == "model" and card.tokens != (info.vocabulary is not None):
            fit = ", ".join(name for name in registry.options("model") if schema("model", name).card.tokens)
            kinds = (f"is for token ids; {data} has none", f"takes no token ids, as {data} has; those do: {fit}")
            raise UserError(f"{choice.name} {kinds[not card.tokens]}")


def beyond(config: Config, clock: Clock) -> list[str]:
    """The times of methods that lie beyond the end of a run, where what they begin never does, or what they end always is."""
    found = []
    for choice in (c for group in ("learner", "with", "sparsity") for c in config[group]):
        for name, value in choice.args.items():
            if value is not None and "Duration" in choice.schema.parameters[name].kinds and clock.steps(value) >= clock.total > 0:
                found.append(f"{choice.key}.{name}={value} is not within this run of {clock.total} steps")
    return found


def assemble(config: Config | dict, report: Callable[[dict], None] = lambda row: None) -> Loop:
    """Build everything that a run needs, in the order of its random streams' names, not of its components.

    Args:
        config: checked, or plain data as `bind` takes it.
        report: receives every row of metrics.

    Raises:
        UserError: data that is not there, a device that is not there, components that exclude each other.
    """
    config = bind(config) if isinstance(config, dict) else config
    seed = config.settings["seed"]
    if config.settings["threads"]:
        torch.set_num_threads(config.settings["threads"])
    keep_memory()
    device = pick_device(config.settings["device"])
    use_kernels(config.kernels["backend"])
    training = config.one("trainer").build()
    if training.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if training.deterministic != torch.are_deterministic_algorithms_enabled():  # the call imports the compiler: a second
        torch.use_deterministic_algorithms(training.deterministic)
    torch.set_float32_matmul_precision("high" if training.precision == "tf32" else "highest")

    data = config.one("data").build()
    check_fit(config, data.info)
    for choice in config["noise"]:
        corrupt = choice.build()
        if corrupt is not None:
            corrupt(data, torch.Generator().manual_seed(derive(seed, choice.name)))
    data.to(device)

    normaliser = config.one("softmax").build()
    make_model = config.one("model").build()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "model"))
        model = make_model(data.info, normaliser).to(device)
    if training.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if training.compile:
        model.compile()

    n, size = len(data.train), training.batch_size
    epoch = n // size if training.drop_last else -(-n // size)
    if epoch == 0:
        raise UserError(f"trainer.batch_size={size} is more than the {n} training samples, and trainer.drop_last leaves no step")
    clock = Clock(epoch, steps(training.duration, epoch))
    state = State(model, config.one("loss").build(), data, device, clock, config.one("optimizer").build(), seed)
    state.eval_batch, state.world = training.eval_batch, World.join(device)
    learner = component(config.one("learner"))
    hooks = [component(c) for group in ("with", "sparsity") for c in config[group]]
    hooks = [c for c in hooks if c.object is not None]
    evaluators, probes = ([component(c) for c in config[group]] for group in ("eval", "probe"))
    measures = Measures(evaluators, probes, report)
    seed_torch(seed)
    return Loop(state, learner, [learner, *hooks], config.one("schedule").build(), measures, training)


def use_kernels(backend: str) -> None:
    from runner.kernels import dispatch

    dispatch.backend(dispatch.first_choice if backend == "auto" else backend)
