"""Where components are: one folder a group, one file an option. Finding one imports nothing."""

import functools
import importlib
import importlib.util
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path

from runner.core.errors import UserError, nearest

PACKAGE = Path(__file__).resolve().parents[1]

# group -> whether several options may be chosen at once, each under its own name
GROUPS = {
    "data": False, "model": False, "loss": False, "learner": False, "optimizer": False, "schedule": False, "noise": False,
    "sparsity": False, "softmax": False, "trainer": False, "logger": False, "launcher": False,
    "with": True, "eval": True, "probe": True,
}  # fmt: skip
# groups of one option to which `GROUP/also` adds further ones, each under its own name
EXTENDABLE = ("noise", "sparsity", "logger")
# groups that do not change the result of a run
COSMETIC = ("logger", "launcher")

_folders: list[Path] = []


def add_folder(folder: str | Path) -> None:
    """Let a user's own folder (`--config-dir`) add options, as `FOLDER/GROUP/OPTION.py`. The built-in options come first."""
    folder = Path(folder).resolve()
    if folder not in _folders:
        _folders.append(folder)
        folders.cache_clear()
        options.cache_clear()


@functools.cache
def folders() -> tuple[Path, ...]:
    """All folders with components: the built-in one, installed packages' (entry point `runner.components`), the user's."""
    found = [PACKAGE / "components"]
    for point in entry_points(group="runner.components"):
        spec = importlib.util.find_spec(point.value)
        found += [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    return (*found, *_folders)


@functools.cache
def options(group: str) -> dict[str, Path]:
    """The options of a group: name -> source file."""
    found: dict[str, Path] = {}
    for folder in folders():
        for file in sorted((folder / group).glob("*.py")):
            if not file.name.startswith("_"):
                found.setdefault(file.stem, file)
    return found


def locate(group: str, option: str) -> Path:
    """The source file of an option. Raises UserError with the nearest name."""
    if group not in GROUPS:
        raise UserError(f"no group '{group}'{nearest(group, GROUPS)}")
    known = options(group)
    if option not in known:
        raise UserError(f"no option '{option}' in group '{group}'{nearest(option, known)}")
    return known[option]


def load(group: str, option: str):
    """Import the module of an option. Raises UserError for an import that fails in it."""
    file = locate(group, option)
    try:
        return _import(file, group, option)
    except (ImportError, SyntaxError) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f"{file}:{lines[-1]}" if lines else str(file)
        raise UserError(f"{where}: {error}") from error


def _import(file: Path, group: str, option: str):
    builtin = PACKAGE / "components" in file.parents
    name = f"runner.components.{group}.{option}" if builtin else f"runner_components_{abs(hash(str(file.parent)))}_{option}"
    if builtin:
        return importlib.import_module(name)
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
