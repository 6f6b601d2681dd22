"""Reading pretrained transformers of texts, and writing them."""

import copy
from pathlib import Path

import torch

from runner import UserError
from runner.components._hub import read, silent, tokenizer


def check_frozen(rank: int, dtype: str) -> None:
    """Raises ValueError where trained weights would be of half precision."""
    if dtype != "float32" and not rank:
        raise ValueError(f"dtype={dtype} is for weights that are frozen; set rank")


def load(kind: str, path: str, info, ids: int, attention: str, dtype: str, who: str, **values) -> tuple:
    """A network and its tokenizer.

    Args:
        kind: class of the library.
        path: name on the hub, or a folder with its files.
        info: of the data, whose words must be the tokenizer's.
        ids: token ids of the data, from 0.
        attention: sdpa or eager.
        dtype: of the weights.
        who: the component, for errors.
        values: further ones of `from_pretrained`.

    Raises:
        UserError: an encoder with a decoder, another tokenizer's ids, what `read` raises.
    """
    cut = tokenizer(path, who, "model.path")
    values |= {"attn_implementation": None if attention == "sdpa" else attention, "dtype": getattr(torch, dtype)}
    network = read(kind, path, "pretrained model", who, "model.path", **values)
    if network.config.is_encoder_decoder:
        raise UserError(f"{who} takes encoders and decoders, '{path}' is both at once; choose another with model.path")
    if ids > (most := network.get_input_embeddings().num_embeddings):
        raise UserError(f"the data has {ids} token ids, '{path}' knows {most}; data.tokenizer must be that of model.path")
    words = getattr(info, "words", ())
    if words != tuple(cut.convert_ids_to_tokens(range(len(words)))):
        raise UserError(f"the data's token ids stand for other words than those of '{path}'; data.tokenizer must be that of model.path")
    return network, cut


def save(network, cut, folder: Path, weights: dict) -> None:
    """Files from which the library reads a network and its tokenizer.

    Args:
        network: of the library; its own weights are not written.
        cut: its tokenizer.
        folder: that does not exist yet.
        weights: by name, in float32.
    """
    import transformers

    with silent(transformers):
        network.save_pretrained(folder, state_dict=weights)
        config = copy.deepcopy(network.config)
        config.dtype, config.use_cache = torch.float32, True  # frozen weights may be of less, and training keeps no cache
        config.save_pretrained(folder)
        cut.save_pretrained(folder)
