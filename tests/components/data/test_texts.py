"""texts: the tokens of the model's own tokenizer, of one column and of two; labels, splits and subsets; what is wrong is said in one line."""

import json
from pathlib import Path

import pytest
import tiny_transformer

from runner import UserError
from runner.components.data.texts import build
from runner.config.bind import bind
from runner.config.compose import composer
from runner.execution.assemble import assemble

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
KINDS = [
    ("a good film", "the plot is fine", "yes"),
    ("the cat sat", "dogs ran", "no"),
    ("a very very dull film", "bad", "yes"),
    ("unheard words", "a film", "no"),
]
ROWS = 5 * KINDS


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_transformer.write(tmp_path_factory.mktemp("bert")))


@pytest.fixture(autouse=True)
def _offline(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setenv("RUNNER_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture
def file(tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"first": a, "second": b, "answer": c, "n": 1}) + "\n" for a, b, c in ROWS))
    return str(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("inputs", [["first"], ["first", "second"]])
def test_tokens_of_the_tokenizer(file, model, inputs):
    data = build(file, model, inputs, "answer", test=None, share=0.2, length=24)
    assert (len(data.train), len(data.test), data.info.outputs) == (16, 4, 2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    longest = max(len(tokenizer(*row[: len(inputs)])["input_ids"]) for row in ROWS)
    assert data.info.shape == (longest,)
    assert data.info.vocabulary == len(tokenizer) > data.train.x.max()
    assert {w: k for k, w in enumerate(data.info.words)} == tokenizer.get_vocab()
    expected = sorted((tuple(tokenizer(*row[: len(inputs)], padding="max_length", max_length=longest)["input_ids"]), int(row[2] == "yes")) for row in ROWS)
    assert sorted((tuple(x.tolist()), int(y)) for split in (data.train, data.test) for x, y in zip(split.x, split.y, strict=True)) == expected


def test_length_and_subset(file, model):
    data = build(file, model, ["first", "second"], "answer", test="train", length=6, train_size=8)
    assert data.info.shape == (6,)
    assert (len(data.train), len(data.test)) == (8, 20)
    assert data.train.y.bincount().tolist() == [4, 4]


def test_a_padding_token_in_the_text_is_text(model, tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": t, "label": k % 2}) + "\n" for k, t in enumerate(["a film", "bad [PAD] [PAD] cat"] * 5)))
    data = build(str(tmp_path / "rows.jsonl"), model, test=None, length=24)
    assert data.info.shape == (6,)
    assert set(data.train.x[:, -1].tolist()) == {0, 3}  # padding, and the end of the longer one


def test_a_folder_of_tables_with_line_breaks_in_quotes(model, tmp_path):
    for split, labels in {"train": ["negative", "positive", "neutral", "negative"], "test": ["neutral", "positive"]}.items():
        row = '"Please judge ""this"" sentence:\nthe {}dull film , not fine .",{},"[""negative"", ""neutral""]",A\n'
        (tmp_path / f"{split}.csv").write_text("question,gt,options,answer\n" + "".join(row.format(k * "very ", y) for k, y in enumerate(labels)))
    data = build(str(tmp_path), model, ["question"], "gt", length=24)
    assert (len(data.train), len(data.test), data.info.outputs) == (4, 2, 3)
    assert (data.train.y.tolist(), data.test.y.tolist()) == ([0, 2, 1, 0], [1, 2])  # by name
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    text = 'Please judge "this" sentence:\nthe very very very dull film , not fine .'
    assert data.train.x[3].tolist() == tokenizer(text)["input_ids"]
    assert (data.train.x[3] == tokenizer.convert_tokens_to_ids("very")).sum() == 3


def test_samples_without_a_label_are_refused(model, tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": "a film", "label": k}) + "\n" for k in [0, 1, 0, 1, None]))
    with pytest.raises(UserError, match="column 'label' has samples without a label"):
        build(str(tmp_path / "rows.jsonl"), model, test=None, length=24)


def test_what_is_wrong_is_said(file, model, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text((Path(model) / "config.json").read_text())
    wrong = {
        r"no tokenizer in '.*empty'": {"inputs": ["first"], "tokenizer": str(tmp_path / "empty")},
        r"column 'n' is not text": {"inputs": ["n"]},
        r"has no column 'text' in its split 'train', it has: first, second, answer, n": {"inputs": ["text"]},
        r"has no split 'test', it has: train": {"inputs": ["first"], "test": "test"},
        r"data\.length=32 is more than the 24 tokens": {"inputs": ["first"], "length": 32},
        r"^tokenizer '.*none' is not on this machine: looked in .*data\.tokenizer": {"inputs": ["first"], "tokenizer": str(tmp_path / "none")},
    }
    for said, values in wrong.items():
        with pytest.raises(UserError, match=said) as error:
            build(file, **{"tokenizer": model, "label": "answer", "test": None, "length": 16, **values})
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="one column or two"):
        build(file, model, ["first", "second", "answer"], "answer")


@pytest.mark.parametrize("family", ["GPT2", "Llama"])
def test_a_tokenizer_without_padding_pads_with_the_end_of_a_text(file, tmp_path, family):
    folder = tiny_transformer.write(tmp_path / family, family)
    data = build(file, str(folder), ["first"], "answer", test="train", length=24)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token is None
    for (text, *_), row in zip(ROWS, data.test.x.tolist(), strict=True):
        ids = tokenizer(text)["input_ids"]
        assert row == ids + [tokenizer.eos_token_id] * (data.info.shape[0] - len(ids))


@pytest.mark.parametrize(("learner", "family"), [("supervised", "Bert"), ("storm", "Bert"), ("supervised", "GPT2"), ("supervised", "Llama")])
def test_a_pretrained_model_is_trained_on_them(file, learner, family, tmp_path):
    model = tiny_transformer.write(tmp_path / family, family)
    chosen = ["data=texts", f"data.path={file}", f"data.tokenizer={model}", "data.inputs=[first,second]", "data.label=answer", "data.test=null"]
    chosen += [
        "data.length=16",
        "model=pretrained",
        f"model.path={model}",
        "model.attention=eager",
        f"learner={learner}",
        "optimizer=adamw",
        "optimizer.lr=3e-3",
    ]
    with composer() as composed:
        loop = assemble(bind(composed([*chosen, "trainer.duration=60it", "trainer.batch_size=8", "trainer.eval_every=60it"])), lambda row: None)
    assert loop.run()["test/acc_last"] == 100
