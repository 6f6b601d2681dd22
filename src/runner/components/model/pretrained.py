"""A pretrained transformer of the Hugging Face hub, with a new linear layer for the classes."""

import os
from pathlib import Path
from typing import Literal

from torch import nn

from runner import UserError, card

CARD = card(source="library `transformers`, AutoModelForSequenceClassification; no code of the model is run", tasks=("classification",))


def read(kind: str, path: str, **values):
    """`transformers.KIND.from_pretrained(path)`, silently, from this machine if it is there. Raises UserError."""
    try:
        import transformers
    except ImportError:
        raise UserError("model=pretrained needs the library transformers: pip install transformers") from None
    place, level, said = Path(path).expanduser(), transformers.logging.get_verbosity(), None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        for offline in (True, False)[: 1 if place.is_dir() or os.environ.get("RUNNER_OFFLINE") else 2]:
            try:
                return getattr(transformers, kind).from_pretrained(str(place) if place.is_dir() else path, local_files_only=offline, **values)
            except (OSError, ValueError) as error:
                said = error
    finally:
        transformers.logging.set_verbosity(level)
        transformers.logging.enable_progress_bar()
    raise UserError(
        f"pretrained model '{path}' is not on this machine: looked in {place.absolute()}, the cache of huggingface_hub, the hub "
        f"({str(said).splitlines()[0]}); set model.path to a name on the hub or a folder of its files"
    ) from said


class Pretrained(nn.Module):
    def __init__(self, network, padding: int, separator: int | None):
        super().__init__()
        self.network, self.padding = network, padding
        self.separator = separator if getattr(network.config, "type_vocab_size", 0) > 1 else None

    def forward(self, x):
        x = x.long()
        seen, second = x != self.padding, {}
        if self.separator is not None:  # as BERT was trained: what stands behind the first separator is the second text
            ends = x == self.separator
            second = {"token_type_ids": ((ends.cumsum(1) - ends.long() > 0) & seen).long()}
        return self.network(input_ids=x, attention_mask=seen.long(), **second).logits


def build(path: str, attention: Literal["sdpa", "eager"] = "sdpa"):
    """Token ids (B, T) of its own tokenizer, as `data=texts` gives them, to logits (B, C). All weights are trained.

    Args:
        path: name on the hub such as `FacebookAI/roberta-base`, or a folder with its files.
        attention: eager is slower, and what methods that differentiate twice need.
    """

    def make(info, softmax):
        del softmax
        if len(info.shape) != 1:
            raise UserError(f"model=pretrained takes token ids (T,), not inputs of shape {info.shape}; set data=texts")
        tokenizer = read("AutoTokenizer", path)
        if tokenizer.pad_token_id is None:
            raise UserError(f"'{path}' has no padding token; choose another with model.path")
        network = read("AutoModelForSequenceClassification", path, num_labels=info.outputs, attn_implementation=attention)
        return Pretrained(network, tokenizer.pad_token_id, tokenizer.sep_token_id).train()

    return make
