"""A pretrained language model of the Hugging Face hub: it predicts the next token, and writes on."""

from typing import Literal

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from runner import UserError, card
from runner.components._learned import bring
from runner.components.model._lora import adapt, merged
from runner.components.model._pretrained import check_frozen, load, save
from runner.core.sharding import is_part

CARD = card(
    source="library `transformers`, AutoModelForCausalLM and its `generate`; no code of the model is run. LoRA: Hu et al. 2021 (2106.09685)",
    tasks=("language",),
)


class CausalLM(nn.Module):
    def __init__(self, network, outputs: int, cut):
        from transformers import GenerationConfig

        super().__init__()
        padding, end = cut.pad_token_id, cut.eos_token_id
        self.network, self.outputs, self.cut, self.padding, self.end = network, outputs, cut, padding, end
        self.longest = getattr(network.config.get_text_config(), "max_position_embeddings", None)
        network.generation_config = GenerationConfig(do_sample=False, use_cache=True, pad_token_id=padding, eos_token_id=end)  # the files' own may draw
        network.config.use_cache = False

    def forward(self, x, seen=None, write: int = 0, **drawn):
        if write:
            return self.generate(x, seen, write, **drawn)
        return self.network(input_ids=x).logits[..., : self.outputs].float()  # some have rows for more ids than their tokenizer

    @torch.compiler.disable
    def generate(self, x, seen, write: int, **drawn):
        return self.network.generate(input_ids=x, attention_mask=seen, max_new_tokens=write, **drawn)[:, x.shape[1] :]

    def write(self, prompts: list, tokens: int, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0, seed: int = 0) -> list:
        """A next token again and again behind each prompt (T,), up to the one that ends a text, which is left out.

        Args:
            prompts: token ids; they are padded on the left, so that none sees the others or the padding.
            tokens: most of them that are written; fewer where the model has no places for more.
            temperature: a token is drawn with probability softmax(logits / temperature); 0 takes the most likely one.
            top_k: of so many most likely ones; 0 of all.
            top_p: of the fewest most likely ones that have this probability together.
            seed: of the draws, which leave torch's own random streams as they are.
        """
        x, seen = (pad_sequence(rows, True, value, "left") for rows, value in ((prompts, self.padding), ([torch.ones_like(p) for p in prompts], 0)))
        room = tokens if self.longest is None else min(tokens, self.longest - x.shape[1])
        if room < 1:
            return [p[:0] for p in prompts]
        drawn = {"do_sample": True, "temperature": temperature, "top_k": top_k, "top_p": top_p} if temperature else {}
        drawn["synced_gpus"] = any(map(is_part, self.parameters()))  # who is done goes on as long as others gather weights
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            torch.manual_seed(seed)
            written = self(x, seen, room, **drawn)  # a call of the module, which gathers weights that processes share
        return [row[: int((row == self.end).long().cumsum(0).eq(0).sum())] for row in written]

    def save(self, folder) -> None:
        """Write a folder that `path` takes: the network in float32, LoRA's corrections added to the weights, and its tokenizer.

        Args:
            folder: that does not exist yet; None in all but the first of several processes, which share the weights out and must call this alike.
        """
        weights = {name: value for name, value in merged(self.network) if folder}
        if folder:
            save(self.network, self.cut, folder, weights)


def check(model: CausalLM, path: str, length: int) -> None:
    """Raises UserError for a network that looks ahead, or that has no places for so many tokens."""
    if model.longest is not None and length > model.longest:
        raise UserError(f"'{path}' does not take texts of {length} tokens, see data.length: it has {model.longest} positions")
    with torch.no_grad():
        one, other = model.eval()(torch.tensor([[0, 1, 2], [0, 1, 1]]))[:, :2]
    if not torch.allclose(one, other, rtol=1e-3, atol=1e-3):
        raise UserError(f"'{path}' sees the tokens that it is to predict, it is no language model; choose another with model.path")


def build(path: str, attention: Literal["sdpa", "eager"] = "sdpa", rank: int = 0, alpha: float = 16.0, dtype: Literal["float32", "bfloat16"] = "float32"):
    """Token ids (B, T) of its own tokenizer, as `data=math_texts` gives them, to logits (B, T, V). All weights are trained, or LoRA's alone.

    Args:
        path: name on the hub such as `meta-llama/Meta-Llama-3-8B`, or a folder with its files.
        attention: sdpa, where the model has it; eager is slower, and what methods that differentiate twice need.
        rank: >= 0; of LoRA's correction to each linear layer but the last one, the weights of all being frozen then; 0 trains them all.
        alpha: > 0; LoRA's corrections are scaled by alpha / rank.
        dtype: of frozen weights; those that are trained are float32.
    """
    check_frozen(rank, dtype)

    def make(info, softmax):
        del softmax
        network, cut = load("AutoModelForCausalLM", path, info, info.outputs, attention, dtype, "model=causal_lm")
        bring(network)
        if rank:
            adapt(network, rank, alpha, (network.get_output_embeddings(),))
        model = CausalLM(network, info.outputs, cut)
        check(model, path, info.shape[0])
        return model.train()

    return make
