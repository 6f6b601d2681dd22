"""Pretrained language models that fit in a test: two narrow layers, and a tokenizer of bytes, which spells every text."""

from pathlib import Path

import torch
from tiny_transformer import NAMES, USUAL

POSITIONS = 128


def write_tokenizer(folder: Path, begin: bool = False) -> None:
    """256 bytes, </s> that ends a text, and <s>, with which texts begin if `begin`."""
    import tokenizers
    import transformers

    signs = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    whole = tokenizers.Tokenizer(tokenizers.models.BPE({s: k for k, s in enumerate(signs)}, []))
    whole.pre_tokenizer, whole.decoder = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False), tokenizers.decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=whole, bos_token="<s>", eos_token="</s>", model_max_length=POSITIONS)
    if begin:
        tokenizer.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", tokenizer.bos_token_id)])
    tokenizer.save_pretrained(folder)


def write(folder: Path, family: str = "GPT2", rows: int = 258, **values) -> Path:
    """Weights and tokenizer of a small model of a family of `transformers`; Llama's texts begin with <s>."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, family == "Llama")
    sizes = {"vocab_size": rows, "max_position_embeddings": POSITIONS, **dict(zip(NAMES.get(family, USUAL), (16, 2, 2, 32), strict=True))}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(**sizes, pad_token_id=None, bos_token_id=256, eos_token_id=257, **values)
        model = getattr(transformers, f"{family}LMHeadModel" if family in ("GPT2", "Bert") else f"{family}ForCausalLM")(config)
        for p in model.parameters():
            if p.ndim == 2:
                torch.nn.init.normal_(p, std=0.3)  # so that what it writes depends on what it reads
    model.save_pretrained(folder)
    return folder
