"""The command `runner`: find the subcommand, and turn what users did wrong into one line and exit status 2."""

import contextlib
import errno
import importlib
import io
import os
import signal
import sys

from runner.core.errors import Stopped, UserError, nearest

HELP = """\
runner: experiments on label noise, softmax, sparsity, optimisation and robustness, from config to checked result

  runner +recipe=noisy_labels                       a recipe, here the tour of label noise, on real data
  runner +recipe=noisy_labels loss=gce noise.rate=0.6 'with=[mixup,ema]'
  runner -m +recipe=noisy_labels loss=ce,gce 'seed=range(5)'     several runs; what is done is not run again

  runner plan OVERRIDES          the jobs of a sweep, what is done of them, and how long the rest takes (--probe: try)
  runner runs [FILTER]           the runs of the store; runner runs gc removes what no plan or study names
  runner table RECIPE[:TABLE]    a recipe's table, mean and interval over paired seeds; runs what is missing
  runner report RECIPE           tables, curves, claims and settings as one HTML page
  runner verify RECIPE           what the recipe claims: held, refuted or undecided
  runner search OVERRIDES        look for good values (Optuna): optimizer.lr='tag(log,interval(1e-3,1))' loss=ce,gce
  runner diff RUN RUN            what differs between two runs, and from which step on
  runner check A B               which components act when, and what conflicts
  runner doctor                  which devices, kernels, data and packages are here, and why others are not

  runner list [GROUP]            groups, the options of one, or all recipes (runner list recipe)
  runner show GROUP=OPTION       what an option does, its keys with ranges, its source, the recipes that use it
  runner why KEY [OVERRIDES]     where a value comes from, what it replaced, and who reads it
  runner new GROUP/NAME          a component, a recipe and their tests, ready to change

Keys: GROUP=OPTION chooses, GROUP.KEY=VALUE sets; with=[a,b] takes several options, with+=c adds one, with-=a drops one.
Hydra's flags work: --cfg job (print the config), --info, --config-dir DIR (your own components and recipes), --config-name,
-m (several runs: a,b or range(5) or glob(*) or zip(a,b)), --hydra-help. Tab completion: eval "$(runner -sc install=bash)"
A sweep also takes --only failed|missing|stale, --retries N, --fail-fast, --timeout 10m and --plan FILE (a frozen plan instead of overrides).
runner COMMAND --help has the flags of a command.
"""
DISK = (errno.ENOSPC, errno.EDQUOT)
COMMANDS = ("check", "diff", "doctor", "list", "new", "plan", "report", "runs", "search", "show", "table", "verify", "why")


def main(argv: list[str] | None = None) -> None:
    """Run the command and exit."""
    argv = sys.argv[1:] if argv is None else argv
    mend_streams()
    try:
        code = dispatch(argv)
        if os.environ.get("WORLD_SIZE", "1") != "1":  # torchrun's: gloo's threads may abort a process that takes itself apart when all is done
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code or 0)
        sys.exit(code)
    except UserError as error:
        if os.environ.get("RANK", "0") == "0":  # one process of torchrun speaks for all
            print(f"runner: {error}", file=sys.stderr)
        if os.environ.get("RUNNER_TRACEBACK"):
            raise
        sys.exit(2)
    except Stopped as stopped:
        print(f"runner: {stopped}", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:
        print("runner: interrupted", file=sys.stderr)
        sys.exit(130)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # as rich ends it
            sys.exit(141)
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.errno == errno.ENOENT and error.filename is None:  # of `os.getcwd`
            print("runner: the current folder is not there any more", file=sys.stderr)
            sys.exit(2)
        if os.environ.get("RUNNER_TRACEBACK") or (error.errno not in DISK and error.filename is None):
            raise
        if error.errno not in DISK:  # a path that cannot be what it was given for
            print(f"runner: {error.filename}: {error.strerror or error} (RUNNER_TRACEBACK=1 shows what wanted it)", file=sys.stderr)
            sys.exit(2)
        print(f"runner: {error}; what was written stays, the same command goes on from there", file=sys.stderr)
        sys.exit(1)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is left is Python's own end: Ctrl-C shortens it, and need not show where it was


def mend_streams() -> None:
    """What was closed before the start goes nowhere, and no file of a run gets its number; a character that an output cannot take is shown by its code."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):  # the lowest number that is free is this one
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 - for as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def dispatch(argv: list[str]) -> int | None:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if argv[0] == "--version":
        from runner import __version__

        print(__version__)
        return 0
    name = argv[0] if argv[0] in COMMANDS else "run"
    if name == "run" and "=" not in argv[0] and argv[0][:1] not in "-+~":
        raise UserError(f"no command '{argv[0]}'{nearest(argv[0], COMMANDS)}")
    if name == "run" and {"-h", "--help"} & set(argv):
        print(HELP, end="")
        return 0
    if backend := os.environ.get("RUNNER_KERNELS"):
        from runner.config.settings import SECTIONS

        SECTIONS["kernels"].parameters["backend"].check("RUNNER_KERNELS", backend)
    command = importlib.import_module(f"runner.cli.{name}")
    return command.main(argv[1:] if name == argv[0] else argv)
