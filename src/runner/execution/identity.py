"""What a run is: an id from what its result depends on, and fingerprints of the code and data that computed it."""

import ast
import functools
import hashlib
import itertools
import json
from pathlib import Path

from runner.config.bind import Config
from runner.config.registry import COSMETIC, PACKAGE
from runner.config.settings import SECTIONS


def canonical(config: Config) -> dict:
    """What the result depends on: the chosen options with the arguments that differ from their defaults, and the seed.

    Left out: options named `none`, groups and keys that do not change the result, and values equal to a component's default, so that
    a new option whose default is off keeps every old id.
    """
    settings = SECTIONS["run"].parameters
    tree: dict = {k: v for k, v in config.settings.items() if settings[k].matters(v)}
    for choice in config.choices:
        if choice.group not in COSMETIC and choice.option != "none":
            tree[choice.key] = [choice.option, choice.changed()]
    return tree


def run_id(config: Config) -> str:
    """Twelve hex digits that name the run."""
    text = json.dumps(canonical(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def code_fingerprint(config: Config) -> str:
    """A hash of the code that computes the result, blind to comments, docstrings and layout."""
    shared = [(PACKAGE / name).glob("*.py") for name in ("core", "kernels", "components")]
    files = [*itertools.chain(*shared), PACKAGE / "execution" / "assemble.py"]
    for choice in config.choices:
        if choice.group not in COSMETIC:
            file = choice.schema.file
            files += [file, *file.parent.glob("_*.py")]
    whole = hashlib.sha256()
    for file in sorted(set(files)):
        whole.update(f"{file.parent.name}/{file.name}".encode() + _meaning(file, file.stat().st_mtime_ns))
    return whole.hexdigest()[:16]


@functools.cache
def _meaning(file: Path, changed: int) -> bytes:
    """Hash of a source file's syntax tree without docstrings; `changed` keys the cache."""
    del changed
    return hashlib.sha256(_text(ast.parse(file.read_text())).encode()).digest()


def _text(node) -> str:
    """A syntax tree without docstrings and positions; in one pass, as it is on the way to a sweep's first job."""
    if isinstance(node, ast.AST):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
        return f"{type(node).__name__}({','.join([_text(getattr(node, name, None)) for name in node._fields])})"
    return f"[{','.join(map(_text, node))}]" if isinstance(node, list) else repr(node)


def data_fingerprint(data) -> str:
    """A hash of the splits: all labels and the inputs of up to 64 samples spread over each."""
    import torch

    whole = hashlib.sha256(repr(data.info).encode())
    for name, split in data.splits().items():
        rows = torch.linspace(0, len(split) - 1, min(64, len(split))).long()
        for tensor in (split.y, split.fetch(rows).x):
            whole.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()[:16]
