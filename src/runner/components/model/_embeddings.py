"""Embeddings of classes by their names, from a file: what a classifier of an open vocabulary compares regions with."""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from runner import UserError


def read(path: str, names: tuple[str, ...]) -> Tensor:
    """(1 + classes, width): zeros for "nothing there", then what the file's categories hold as `text_emb` or `embedding`. Raises UserError."""
    file = Path(path).expanduser()
    if not names:
        raise UserError("model.embeddings needs the names of the data's classes, which this one has not; data=coco has")
    if not file.is_file():
        raise UserError(f"the embeddings of classes are not on this machine: looked in {file}; set model.embeddings to a file with `text_emb` of each category")
    try:
        found = {c["name"]: c.get("text_emb", c.get("embedding")) for c in json.loads(file.read_bytes())["categories"]}
        if lost := [name for name in names if found.get(name) is None]:
            raise UserError(f"{file} has no embedding of '{lost[0]}', a class of the data; tools/add_textEmb_cocojson.py of wkfdb/MarvelOVD writes them")
        rows = torch.tensor([found[name] for name in names], dtype=torch.float32)
        return torch.cat([torch.zeros(1, rows.shape[1]), rows])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{file} is damaged, or has no categories with embeddings as lists of numbers ({error!r})") from error


class ByName(nn.Module):
    """Regions (..., hidden) to logits (..., classes): a linear layer, then products with the classes' fixed embeddings, as they are."""

    def __init__(self, hidden: int, rows: Tensor):
        super().__init__()
        self.layer = nn.Linear(hidden, rows.shape[1])
        self.register_buffer("rows", rows)

    def forward(self, z):
        return self.layer(z) @ self.rows.T.to(z.dtype)
