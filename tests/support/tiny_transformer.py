"""Pretrained models that fit in a test: two narrow layers and some twenty words, in the files that `transformers` writes."""

from pathlib import Path

import torch

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *["a", "good", "bad", "film", "the", "plot", "is", "not", "very", "dull", "fine", "cat", "dog", "sat", "##s", "ran"],
]
MARKS = {"GPT2": "$A", "Llama": "[CLS] $A"}  # decoders, and what their tokenizers make of a text: none has a padding token, [SEP] ends a text
NAMES = {"DistilBert": ("dim", "n_layers", "n_heads", "hidden_dim"), "GPT2": ("n_embd", "n_layer", "n_head", "n_inner")}
USUAL = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def write_tokenizer(folder: Path, marks: str | None) -> None:
    """BERT's, or one of whole words that pads nothing."""
    import tokenizers
    import transformers

    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=24)
    if marks:
        whole = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: k for k, w in enumerate(WORDS)}, unk_token="[UNK]"))
        whole.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        whole.post_processor = tokenizers.processors.TemplateProcessing(marks, f"{marks} {marks.replace('A', 'B')}", [("[CLS]", 2), ("[SEP]", 3)])
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=whole, bos_token="[CLS]", eos_token="[SEP]", unk_token="[UNK]", model_max_length=24, padding_side="left"
        )
    tokenizer.save_pretrained(folder)


def write(folder: Path, family: str = "Bert", marks: str | None = None) -> Path:
    """Weights and tokenizer of a small model of a family of `transformers`; `marks` is what a decoder's tokenizer makes of a text."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, marks or MARKS.get(family))
    sizes = {"vocab_size": len(WORDS), "max_position_embeddings": 24, **dict(zip(NAMES.get(family, USUAL), (16, 2, 2, 32), strict=True))}
    ends = {"pad_token_id": None, "bos_token_id": 2, "eos_token_id": 3} if family in MARKS else {"pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(**sizes, **ends)
        model = getattr(transformers, f"{family}Model")(config)
        torch.nn.init.normal_(model.get_input_embeddings().weight)
        if family == "Bert":
            torch.nn.init.normal_(model.embeddings.token_type_embeddings.weight)
    model.save_pretrained(folder)
    return folder
