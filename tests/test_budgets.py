"""The shape of the house: sizes, and who may know whom. A budget that pinches asks for a simpler design before a larger number."""

import ast
import io
import statistics
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from runner.config import recipes, registry

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "runner"


def lines(file: Path) -> int:
    return len(file.read_text().splitlines())


def test_sizes():
    core = {f: lines(f) for f in (SOURCE / "core").glob("*.py")}
    assert core[SOURCE / "core" / "loop.py"] <= 150
    assert core[SOURCE / "core" / "state.py"] <= 120
    assert sum(core.values()) <= 1500
    assert max(core.values()) <= 250
    assert lines(ROOT / "README.md") <= 250


def test_component_sizes():
    sizes = {f: lines(f) for group in registry.GROUPS for f in registry.options(group).values() if SOURCE in f.parents}
    assert len(sizes) >= 40
    assert statistics.median(sizes.values()) <= 60
    assert {f.name: n for f, n in sizes.items() if n > 150} == {}


def test_no_long_files():
    tracked = [f for folder in ("src", "tests", "scripts") for f in (ROOT / folder).rglob("*.py")]
    assert {str(f.relative_to(ROOT)): n for f in tracked if (n := lines(f)) > 400} == {}
    assert {name: n for name, file in recipes.names().items() if ROOT in file.parents and (n := lines(file)) > 60} == {}


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def test_the_core_knows_no_component_no_config_and_no_logger():
    for file in (SOURCE / "core").glob("*.py"):
        outside = {m for m in imports(file) if m.startswith("runner.") and not m.startswith("runner.core")}
        assert not outside, f"{file.name} imports {outside}"
        assert not {m.split(".")[0] for m in imports(file)} & {"hydra", "omegaconf", "wandb", "datasets", "rich", "yaml"}


# words of the language, of torch or of the loop itself that some component is called by too
COMMON = {"step", "loss", "set", "file", "none", "state", "linear"}


def test_the_core_names_no_component():
    names = {option for group in registry.GROUPS for option, file in registry.options(group).items() if SOURCE in file.parents} - COMMON
    for file in (SOURCE / "core").glob("*.py"):
        words = {t.string for t in tokenize.generate_tokens(io.StringIO(file.read_text()).readline) if t.type == tokenize.NAME}
        words |= {n.value for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        assert not words & names, f"{file.name} names {words & names}"


def test_components_know_the_core_and_nothing_else():
    for group in registry.GROUPS:
        for file in (SOURCE / "components" / group).glob("*.py"):
            known = {m for m in imports(file) if m.startswith("runner.")}
            own_helpers = f"runner.components.{group}._"
            helpers = (own_helpers, "runner.components._")
            allowed = ("runner.core", "runner.kernels", *helpers, "runner.card", "runner.Duration", "runner.UserError")
            wrong = {m for m in known - {own_helpers[:-2], "runner.components"} if not m.startswith(allowed)}
            assert not wrong, f"{group}/{file.name} imports {wrong}"
            assert not {m.split(".")[0] for m in imports(file)} & {"hydra", "omegaconf"}, file


def test_kernels_are_a_library_of_their_own():
    for file in (SOURCE / "kernels").glob("*.py"):
        assert not {m for m in imports(file) if m.startswith("runner.") and not m.startswith("runner.kernels")}, file


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["show", "loss=gce"]], ids=" ".join)
def test_looking_is_quick(arguments):
    """What takes a second to import is not imported to look at names and options."""
    code = "import sys; from runner.cli.main import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    env = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"torch", "hydra", "numpy", "scipy", "sklearn", "matplotlib"} & set(done.stderr.split())


def test_the_repository_speaks_of_the_project_alone():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    for name in filter(lambda n: (ROOT / n).is_file(), tracked):
        text = (ROOT / name).read_bytes()
        for home in (b"/" + b"home/", b"/" + b"root/", b"C:" + b"\\"):
            assert home not in text, f"{name} holds a path of somebody's machine"
