"""`runner doctor`: which devices, kernels, data sets and optional packages are here, and why others are not."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.markup import escape

from runner.cli.arguments import Parser
from runner.config import registry
from runner.config.schema import schema
from runner.core.errors import UserError
from runner.execution import store

OPTIONAL = {
    "wandb": "logger=wandb",
    "tensorboard": "logger=tensorboard",
    "optuna": "runner search",
    "matplotlib": "plots",
    "ray": "launcher=ray",
    "submitit": "launcher=slurm",
    "transformers": "data=texts, data=math_texts, model=pretrained, model=causal_lm and model=vision_encoder",
}


def main(argv: list[str]) -> int:
    Parser(prog="runner doctor", description=__doc__, allow_abbrev=False).parse_args(argv)
    import torch

    console = Console(highlight=False, soft_wrap=True)  # addresses stay whole
    for title, rows in (("devices", devices(torch)), ("kernels", kernels(torch)), ("data", data()), ("packages", packages())):
        console.print(f"[italic]{title}[/]")
        wide = max(len(name) for name, _, _ in rows)
        for name, here, words in rows:
            state = {True: "[green]here[/]    ", False: "[yellow]not here[/]", None: " " * 8}[here]
            console.print(f" {escape(name):<{wide}}  {state}  {escape(words)}")
    return 0


def devices(torch) -> list[tuple[str, bool | None, str]]:
    """Versions, processors and where records go."""
    found = [("python", True, platform.python_version()), ("torch", True, f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}")]
    found.append(("cpu", True, f"{os.cpu_count()} cores, {platform.machine()}"))
    for k in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(k)
        found.append((f"cuda:{k}", True, f"{about.name}, {about.total_memory / 2**30:.0f} GiB, compute capability {about.major}.{about.minor}"))
    if not torch.cuda.is_available():
        why = "torch is built without CUDA" if torch.version.cuda is None else "torch finds no CUDA device"
        found.append(("cuda", False, why))
    place = store.folder()
    parent = place if place.exists() else place.resolve().parent
    found.append(("store", os.access(parent, os.W_OK), f"{place.resolve()}"))
    return found


def kernels(torch) -> list[tuple[str, bool | None, str]]:
    """What each fused operation would run with `kernels.backend=auto`."""
    from runner.kernels import dispatch

    row = torch.zeros(2, 64, device="cuda" if torch.cuda.is_available() else "cpu")
    insisted = dispatch.first_choice == "triton"
    reasons: dict[tuple[str, str], list[str]] = {}
    for name in dispatch.ops():
        where, why = "reference", ""
        if dispatch.first_choice == "reference":
            why = "; RUNNER_KERNELS=reference"
        elif (limit := dispatch.why_not(name, row)) is not None:
            where = "none" if insisted else "reference"
            why = f"; no Triton kernel for {limit}" + ", and RUNNER_KERNELS=triton takes no reference" * insisted
        elif row.is_cuda or insisted:
            where = "triton"
        else:
            why = "; on a CPU only kernels.backend=triton interprets the kernels"
        reasons.setdefault((where, why), []).append(name)
    return [(where, where != "none", ", ".join(names) + why) for (where, why), names in reasons.items()]


def data() -> list[tuple[str, bool | None, str]]:
    """Every data option with its defaults, without a download."""
    found = []
    for option in registry.options("data"):
        known = schema("data", option)
        if missing := [f"data.{p.name}" for p in known.parameters.values() if p.required]:
            found.append((option, None, f"takes {', '.join(missing)}"))
            continue
        values = {**known.defaults(), **({"download": False} if "download" in known.parameters else {})}
        try:
            built = registry.load("data", option).build(**values)
        except (UserError, ValueError, OSError, ImportError) as error:
            found.append((option, False, str(error)))
        else:
            found.append((option, True, f"{len(built.train)} training samples of shape {built.info.shape}"))
    return found


def packages() -> list[tuple[str, bool | None, str]]:
    """Packages that some commands need."""
    found = []
    for name, use in OPTIONAL.items():
        try:
            found.append((name, True, f"{version(name)}, for {use}"))
        except PackageNotFoundError:
            found.append((name, False, f"for {use}: pip install {name}"))
    return found
