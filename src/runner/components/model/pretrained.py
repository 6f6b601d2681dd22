"""A pretrained transformer of the Hugging Face hub, with a new head for the classes."""

import contextlib
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from runner import UserError, card

CARD = card(source="library `transformers`, AutoModelForSequenceClassification; no code of the model is run", tasks=("classification",))


def read(kind: str, path: str, **values):
    """`transformers.KIND.from_pretrained(path)`, silently, from this machine if it is there. Raises UserError."""
    try:
        import transformers
        from huggingface_hub import constants
    except ImportError:
        raise UserError("model=pretrained needs the library transformers: pip install transformers") from None
    place, said = Path(path).expanduser(), transformers.logging
    level, bar = said.get_verbosity(), said.is_progress_bar_enabled()
    load = lambda offline: getattr(transformers, kind).from_pretrained(
        str(place) if place.is_dir() else path, local_files_only=offline, trust_remote_code=False, **values
    )
    said.set_verbosity_error()
    said.disable_progress_bar()
    try:
        try:
            return load(True)
        except OSError:
            if place.is_dir() or os.environ.get("RUNNER_OFFLINE"):
                raise
        with contextlib.suppress(urllib.error.HTTPError):  # it answers; without an answer the library would try again for long
            urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=5).close()
        return load(False)
    except OSError as error:
        if place.is_dir():
            raise _unusable(path, error) from error
        raise UserError(
            f"pretrained model '{path}' is not on this machine: looked in {place.absolute()}, the cache of huggingface_hub, the hub "
            f"({str(error).splitlines()[0]}); set model.path to a name on the hub or a folder of its files"
        ) from error
    except Exception as error:  # what a damaged file or another kind of model raises is the library's affair
        raise _unusable(path, error) from error
    finally:
        said.set_verbosity(level)
        if bar:
            said.enable_progress_bar()


def _unusable(path: str, error: Exception) -> UserError:
    return UserError(f"pretrained model '{path}' cannot be used: {' '.join(str(error).split())[:300] or type(error).__name__}")


class Pretrained(nn.Module):
    def __init__(self, network, padding: int, separator: int | None):
        super().__init__()
        self.network, self.padding = network, padding
        self.separator = separator if getattr(network.config, "type_vocab_size", 0) > 1 else None

    def forward(self, x):
        if x.is_floating_point():
            raise UserError("model=pretrained takes token ids, not numbers; set data=texts")
        seen, second = x != self.padding, {}
        if self.separator is not None:  # as BERT was trained: what stands behind the first separator is the second text
            ends = x == self.separator
            second = {"token_type_ids": ((ends.cumsum(1) - ends.long() > 0) & seen).long()}
        return self.network(input_ids=x.long(), attention_mask=seen.long(), **second).logits


def renew(network) -> None:
    """Draw the head anew, also where the files hold one: normal weights of the model's own deviation, biases of 0."""
    heads = [child for name, child in network.named_children() if name != network.base_model_prefix]
    for layer in (layer for head in heads for layer in head.modules() if isinstance(layer, nn.Linear)):
        nn.init.normal_(layer.weight, std=getattr(network.config, "initializer_range", 0.02))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def build(path: str, attention: Literal["sdpa", "eager"] = "sdpa"):
    """Token ids (B, T) of its own tokenizer, as `data=texts` gives them, to logits (B, C). All weights are trained, in float32.

    Args:
        path: name on the hub such as `FacebookAI/roberta-base`, or a folder with its files.
        attention: eager is slower, and what some models, and methods that differentiate twice, need.
    """

    def make(info, softmax):
        del softmax
        if len(info.shape) != 1:
            raise UserError(f"model=pretrained takes token ids (T,), not inputs of shape {info.shape}; set data=texts")
        tokenizer = read("AutoTokenizer", path)
        if tokenizer.pad_token_id is None:
            raise UserError(f"'{path}' has no padding token; choose another with model.path")
        network = read("AutoModelForSequenceClassification", path, num_labels=info.outputs, attn_implementation=attention, ignore_mismatched_sizes=True)
        network.config.pad_token_id = tokenizer.pad_token_id
        renew(network.float())
        model = Pretrained(network, tokenizer.pad_token_id, tokenizer.sep_token_id)
        longest = torch.full((1, *info.shape), int(tokenizer.pad_token_id == 0))  # of any token but padding
        try:
            with torch.no_grad():
                model.eval()(longest)
        except (RuntimeError, IndexError, ValueError) as error:
            raise UserError(f"'{path}' does not take texts of {info.shape[0]} tokens, see data.length: {str(error).splitlines()[0]}") from error
        return model.train()

    return make
