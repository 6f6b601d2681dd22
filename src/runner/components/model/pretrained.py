"""A pretrained transformer of the Hugging Face hub, with a new head for the classes."""

from typing import Literal

import torch
from torch import nn

from runner import UserError, card
from runner.components._learned import bring
from runner.components.model._lora import adapt
from runner.components.model._pretrained import check_frozen, load
from runner.components.model._tokens import ids

CARD = card(
    source="library `transformers`, AutoModelForSequenceClassification; no code of the model is run. LoRA: Hu et al. 2021 (2106.09685)",
    tasks=("classification",),
    tokens=True,
)


class Pretrained(nn.Module):
    def __init__(self, network, padding: int, separator: int | None):
        super().__init__()
        self.network, self.padding, self.head = network, padding, nn.Identity()
        if isinstance(getattr(network, "score", None), nn.Linear):  # of decoders: the library gives it all tokens and keeps the last one's logits
            self.head, network.score = network.score, nn.Identity()
        self.separator = separator if getattr(network.config, "type_vocab_size", 0) > 1 else None

    def forward(self, x):
        x = ids(x)
        seen, second = x != self.padding, {}
        if self.separator is not None:  # as BERT was trained: what stands behind the first separator is the second text
            ends = x == self.separator
            second = {"token_type_ids": ((ends.cumsum(1) - ends.long() > 0) & seen).long()}
        return self.head(self.network(input_ids=x, attention_mask=seen.long(), **second).logits)


def renew(network) -> None:
    """Draw the head anew, also where the files hold one: normal weights of the model's own deviation, biases of 0. It computes in float32."""
    heads = [child for name, child in network.named_children() if name != network.base_model_prefix]
    for layer in (layer for head in heads for layer in head.modules() if isinstance(layer, nn.Linear)):
        nn.init.normal_(layer.weight, std=getattr(network.config, "initializer_range", 0.02))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for head in heads if network.dtype != torch.float32 else ():
        head.float().register_forward_pre_hook(lambda head, given: tuple(x.float() for x in given))


def build(path: str, attention: Literal["sdpa", "eager"] = "sdpa", rank: int = 0, alpha: float = 16.0, dtype: Literal["float32", "bfloat16"] = "float32"):
    """Token ids (B, T) of its own tokenizer, as `data=texts` gives them, to logits (B, C). All weights are trained, or the head and LoRA's.

    Encoders, such as BERT, and decoders, such as GPT-2 and Llama: these are read at the last token that is no padding.

    Args:
        path: name on the hub such as `FacebookAI/roberta-base`, or a folder with its files.
        attention: sdpa, where the model has it; eager is slower, and what methods that differentiate twice need.
        rank: >= 0; of LoRA's correction to each linear layer of the body, whose own weights are frozen then; 0 trains them all.
        alpha: > 0; LoRA's corrections are scaled by alpha / rank.
        dtype: of frozen weights; those that are trained are float32.
    """
    check_frozen(rank, dtype)

    def make(info, softmax):
        del softmax
        values = {"num_labels": info.outputs, "ignore_mismatched_sizes": True}
        network, cut = load("AutoModelForSequenceClassification", path, info, info.vocabulary, attention, dtype, "model=pretrained", **values)
        network.config.get_text_config().pad_token_id, network.config.use_cache = cut.pad_token_id, False
        renew(network)
        bring(network.base_model)
        if rank:
            adapt(network.base_model, rank, alpha)
        model = Pretrained(network, cut.pad_token_id, cut.sep_token_id)
        longest = torch.full((1, *info.shape), int(cut.pad_token_id == 0))  # of any token but padding
        try:
            with torch.no_grad():
                model.eval()(longest)
        except (RuntimeError, IndexError, ValueError) as error:
            raise UserError(f"'{path}' does not take texts of {info.shape[0]} tokens, see data.length: {str(error).splitlines()[0]}") from error
        return model.train()

    return make
