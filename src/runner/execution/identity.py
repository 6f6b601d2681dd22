"""What a run is: an id from what its result depends on, and fingerprints of the code, the files and the data that computed it."""

import ast
import functools
import hashlib
import itertools
import json
from pathlib import Path

from runner.config.bind import Config
from runner.config.registry import COSMETIC, PACKAGE
from runner.config.settings import SECTIONS

LARGE = 2**25  # bytes that are read of a file, from its beginning and from its end


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


def named_files(config: Config) -> dict[str, str]:
    """The files that the config names, as it names them, each with a fingerprint. A name has a suffix or a folder; what is in a folder is not looked at."""
    values = [v for c in config.choices if c.group not in COSMETIC for v in c.changed().values()]
    texts = [v for value in values for v in (value if isinstance(value, list | tuple) else [value]) if isinstance(v, str) and ("." in v or "/" in v)]
    return {text: digits for text in texts if (digits := file_fingerprint(text))}


def file_fingerprint(name: str) -> str | None:
    """A hash of a file's bytes, of a large one's first and last and its size; None where there is none that can be read."""
    try:
        file = Path(name).expanduser()
        about = file.stat()
        return _bytes(file, about.st_size, about.st_mtime_ns) if file.is_file() else None
    except (OSError, ValueError, RuntimeError):  # no such name for a file, no such user
        return None


@functools.cache
def _bytes(file: Path, size: int, changed: int) -> str:
    """Hash of a file's bytes; `changed` keys the cache."""
    del changed
    whole = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        whole.update(stream.read(LARGE))
        if size > LARGE:
            stream.seek(-min(LARGE, size - LARGE), 2)
            whole.update(stream.read())
    return whole.hexdigest()[:16]


def data_fingerprint(data) -> str:
    """A hash of the splits: all labels and the inputs of up to 64 samples spread over each."""
    import torch

    whole = hashlib.sha256(repr(data.info).encode())
    for name, split in data.splits().items():
        rows = torch.linspace(0, len(split) - 1, min(64, len(split))).long()
        for tensor in (split.y, split.fetch(rows).x):
            whole.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()[:16]
