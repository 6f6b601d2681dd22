"""A pretrained model that fits in a test: BERT of two narrow layers and some twenty words, in the files that `transformers` writes."""

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


def write(folder: Path, family: str = "Bert") -> Path:
    """Weights and tokenizer of a small model of a family of `transformers`."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=24).save_pretrained(folder)
    sizes = {"vocab_size": len(WORDS), "max_position_embeddings": 24, "pad_token_id": 0}
    wide = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32} if family == "DistilBert" else {}
    wide = wide or {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(**sizes, **wide)
        model = getattr(transformers, f"{family}Model")(config)
        torch.nn.init.normal_(model.embeddings.word_embeddings.weight)
        if family == "Bert":
            torch.nn.init.normal_(model.embeddings.token_type_embeddings.weight)
    model.save_pretrained(folder)
    return folder
