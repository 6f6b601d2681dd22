"""Sentences, or pairs of them, of the Hugging Face hub or a local file, as the tokens of a pretrained model."""

import torch

from runner import UserError, card
from runner.components._hub import tokenizer as tokenizer_of
from runner.components._words import Words
from runner.components.data._hub import divided, labels_of, splits_of
from runner.core.data import Data, Split

CARD = card(source="libraries `datasets` and `transformers`; no code of the data set or of the model is run", tasks=("classification",), tokens=True)


def tokens(rows, columns: list[str], tokenizer, length: int) -> list[list[int]]:
    """The token ids of each row. Raises UserError for what is no text."""
    parts = [list(rows[c]) for c in columns]
    for column, part in zip(columns, parts, strict=True):
        if not all(isinstance(text, str) for text in part):
            raise UserError(f"column '{column}' is not text; choose one or two others with data.inputs=[...]")
    return tokenizer(*parts, truncation=True, max_length=length)["input_ids"]


def build(
    path: str, tokenizer: str, inputs: list[str] = ("text",), label: str = "label", config: str | None = None, train: str = "train", test: str | None = "test",
    val: str | None = None, share: float = 0.2, length: int = 128, train_size: int | None = None, split: int = 0,
):  # fmt: skip
    """Token ids (N, T), T the longest of all splits, with the padding token of the tokenizer behind the text.

    Args:
        path: name on the hub such as `nyu-mll/glue`, a local file, or a folder of files.
        tokenizer: of which model on the hub, such as `FacebookAI/roberta-base`, or a folder with its files.
        inputs: one column of texts, or two, with the model's separator between them if it has one: GPT-2 and Llama have none.
        label: column of the classes.
        config: which configuration of a data set that has several, such as `mrpc` of GLUE.
        train: name of the training split.
        test: name of the test split; null splits `share` off the training rows. GLUE's has no labels, take its `validation`.
        val: name of the validation split, if one is wanted.
        share: in (0, 1); share of the training rows that are the test where `test` is null.
        length: >= 4; tokens that are kept of a text, or of both.
        train_size: >= 1; train on so many rows, as many of each class; all if not given.
        split: >= 0; which split and which subset.
    """
    if len(inputs) not in (1, 2):
        raise ValueError(f"inputs takes one column or two, not {len(inputs)}")
    cut = tokenizer_of(tokenizer, "data=texts", "data.tokenizer")
    if length > cut.model_max_length:
        raise UserError(f"data.length={length} is more than the {cut.model_max_length} tokens that '{tokenizer}' takes")
    parts = splits_of(path, config, [train, test, val], [label, *inputs])
    y, outputs = labels_of(parts, label)
    x = [tokens(p, list(inputs), cut, length) for p in parts]
    used = max(map(len, (row for ids in x for row in ids)))
    padded = [torch.tensor([row + [cut.pad_token_id] * (used - len(row)) for row in ids]) for ids in x]
    x, y = divided(padded, y, test, share, train_size, split, True)
    words = tuple(cut.convert_ids_to_tokens(range(len(cut))))
    return Data(Words("classification", (used,), outputs, vocabulary=len(cut), words=words), *(Split(a, b) for a, b in zip(x, y, strict=True)))
