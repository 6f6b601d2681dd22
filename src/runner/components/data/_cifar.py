"""CIFAR-10 and CIFAR-100 as torchvision reads them: by checksum, then whole into memory."""

from pathlib import Path

import torch

from runner.components.data._files import absent, cache, fetch, unpack


def cifar(name: str, root: str | None, download: bool) -> list[tuple]:
    """Training and test images as [(uint8 (n, 3, 32, 32), classes (n,)), ...] of `CIFAR10` or `CIFAR100`. Raises UserError."""
    from torchvision import datasets

    kind = getattr(datasets, name)
    folder = Path(root).expanduser() if root else cache()
    try:
        parts = _read(kind, folder)
    except (RuntimeError, OSError) as missing:
        how = f"set data.root=FOLDER of {kind.base_folder}, or get it where there is a network: data.download=true, or {kind.url}"
        if not download:
            raise absent(name, [folder / kind.base_folder], how) from missing
        try:
            fetch(kind.url, folder / kind.filename, kind.tgz_md5)
            unpack(folder / kind.filename, folder)
            parts = _read(kind, folder)
        except (RuntimeError, OSError) as error:
            raise absent(name, [folder / kind.base_folder], how, error) from error
    return [(torch.from_numpy(p.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(p.targets)) for p in parts]


def _read(kind, folder):
    return [kind(folder, train=train, download=False) for train in (True, False)]
