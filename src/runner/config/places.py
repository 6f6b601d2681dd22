"""Where `conf/` and `recipes/` are: beside `src/` in a checkout, inside the package when installed."""

from pathlib import Path

from runner.config.registry import PACKAGE


def _place(name: str) -> Path:
    checkout = PACKAGE.parents[1] / name
    return checkout if PACKAGE.parent.name == "src" and checkout.is_dir() else PACKAGE / name


CONF, RECIPES = _place("conf"), _place("recipes")


def checkout() -> Path | None:
    """The root of the source checkout that this package runs from, or None."""
    root = PACKAGE.parents[1]
    return root if PACKAGE.parent.name == "src" and (root / "pyproject.toml").is_file() else None
