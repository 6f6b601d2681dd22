"""notes: files written small and read back: which sentences, words and labels are kept, and the two recipes' learners on them."""

import json

import pytest
import torch

from runner import UserError
from runner.components.data.notes import build
from runner.execution.assemble import assemble

TRAIN = [
    {"sentences": ["Start aspirin, 81 mg.", "BP stable.", "BP 81"], "headings": ["plan", "other", None], "truth": ["plan", "plan", "plan"]},
    {"sentences": ["", "Aspirin stable"], "headings": ["plan", "other"], "truth": [None, "other"]},
]
TEST = [{"sentences": ["Stop ASPIRIN 81", "bp", "81"], "truth": ["plan", "other", None], "headings": ["other", "plan", "plan"]}]
# of the sentences with headings: the first three occur twice there, and so would 81 and bp with the sentence that has none
WORDS = {".": 2, "aspirin": 3, "stable": 4, ",": 5, "81": 6, "bp": 7, "mg": 8, "start": 9}


def write(folder, train, test):
    for name, notes in (("train", train), ("test", test)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(n, ensure_ascii=False) + "\n" for n in notes), encoding="utf-8")
    return str(folder)


def ids(*rows, length):
    return torch.tensor([[WORDS.get(w, 1) for w in r.split()] + [0] * (length - len(r.split())) for r in rows])


def test_sentences_are_rows_of_word_ids_with_the_labels_of_their_headings(tmp_path):
    data = build(write(tmp_path, TRAIN, TEST), length=7, min_count=1)
    assert (data.info.task, data.info.shape, data.info.outputs) == ("classification", (7,), 2)
    assert data.train.x.dtype == torch.float32
    assert torch.equal(data.train.x.long(), ids("start aspirin , 81 mg .", "bp stable .", "aspirin stable", length=7))
    assert torch.equal(data.test.x.long(), ids("stop aspirin 81", "bp", length=7))
    assert (data.train.y.tolist(), data.train.clean.tolist(), data.test.y.tolist(), data.test.clean) == ([0, 1, 1], [0, 0, 1], [0, 1], None)
    assert (data.train.side["target"].tolist(), data.test.side["rules"].tolist()) == ([False] * 3, [1, 0])
    assert torch.equal(build(str(tmp_path), length=2, min_count=1).train.x, data.train.x[:, :2])


def test_labels_may_be_of_annotators_in_training_and_of_headings_in_the_test(tmp_path):
    data = build(write(tmp_path, TRAIN, TEST), length=6, labels="truth", test_labels="headings", min_count=1)
    assert (data.train.y.tolist(), data.train.clean) == ([0, 0, 0, 1], None)
    assert (data.test.y.tolist(), data.test.clean) == ([1, 0, 0], None)  # one has no truth
    known = [{**TEST[0], "truth": ["plan", "other", "other"]}]
    assert build(write(tmp_path, TRAIN, known), test_labels="headings").test.clean.tolist() == [0, 1, 1]
    assert "rules" not in build(write(tmp_path, TRAIN, [{"sentences": ["a", "b"], "truth": ["plan", "other"]}])).test.side


def test_the_vocabulary_is_of_frequent_words(tmp_path):
    root = write(tmp_path, TRAIN, TEST)
    kept = lambda **options: build(root, length=7, **options).train.x[0].long().tolist()
    assert kept() == [1, 3, 1, 1, 1, 2, 0]  # twice: aspirin, stable and the full stop
    assert kept(vocabulary=4) == [1, 3, 1, 1, 1, 2, 0]
    assert kept(vocabulary=3) == [1, 1, 1, 1, 1, 2, 0]
    assert kept(min_count=3) == [1, 1, 1, 1, 1, 1, 0]
    for size in (4, 3):
        data = build(root, length=7, vocabulary=size)
        assert data.info.vocabulary == size == data.train.x.max() + 1


HOSPITALS = [
    {"sentences": ["n1 n1", "n1"], "truth": ["P", "S"], "headings": ["S", "S"], "target": True},
    {"sentences": ["a b c", "d e"], "headings": ["S", "P"]},
    {"sentences": ["n2", "n2 n2"], "truth": ["A", "P"], "target": True},
    {"sentences": ["f g"], "headings": ["O"]},
    {"sentences": ["n3 n3 n3"], "truth": ["A"], "target": True},
    {"sentences": ["n4 n4 n4"], "headings": ["A"], "target": True},
]
SOAP = {"view": "words", "classes": ["S", "O", "A", "P"], "min_count": 1}


def test_words_are_tagged_in_windows_of_each_hospital(tmp_path):
    test = [{"sentences": ["a x", "b"], "truth": ["S", "P"], "headings": ["S", "O"]}, {"sentences": ["n1"] * 4, "truth": list("SOAP"), "target": True}]
    data = build(write(tmp_path, HOSPITALS, test), length=3, **SOAP)
    assert (data.info.task, data.info.shape, data.info.outputs) == ("language", (3,), 12)
    # ids from 2: n1 n2 n3 (thrice each), a ... g; g itself is left out, it does not fill a window
    assert data.train.x.tolist() == [[5, 6, 7], [8, 9, 10], [2, 2, 2], [3, 3, 3], [4, 4, 4]]
    assert data.train.y.tolist() == [[0, 0, 0], [3, 3, 1], [3, 3, 0], [2, 3, 3], [2, 2, 2]]
    assert data.train.side["target"].tolist() == [False, False, True, True, True]
    assert (data.train.clean, "rules" in data.test.side) == (None, False)
    assert (data.test.x.tolist(), data.test.y.tolist()) == ([[5, 1, 6], [2, 2, 2]], [[0, 0, 3], [0, 1, 2]])
    here = build(str(tmp_path), length=3, test="source", **SOAP).test
    assert (here.y.tolist(), here.side["rules"].tolist()) == ([[0, 0, 3]], [[0, 0, 1]])
    assert build(str(tmp_path), length=3, test="target", **SOAP).test.y.tolist() == [[0, 1, 2]]


def test_so_many_notes_of_the_target_hospital_are_drawn(tmp_path):
    root = write(tmp_path, HOSPITALS, [{"sentences": ["a b c"], "truth": ["S"]}])

    def drawn(annotated, split=0):
        train = build(root, length=3, annotated=annotated, split=split, **SOAP).train
        return {tuple(y) for y in train.y[train.side["target"]].tolist()}

    assert [len(drawn(n)) for n in (0, 1, 2, 3)] == [0, 1, 2, 3]
    assert drawn(1) < drawn(2) < drawn(3) == drawn(None)
    assert len({tuple(drawn(1, split)) for split in range(20)}) == 3
    with pytest.raises(ValueError, match="annotated=4 is more than the 3"):
        drawn(4)


def said(root, **options) -> str:
    with pytest.raises(UserError) as error:
        build(str(root), **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_files_that_are_not_there_are_said(tmp_path):
    assert "looked in" in said(tmp_path / "none")
    write(tmp_path, TRAIN, TEST)
    (tmp_path / "test.jsonl").unlink()
    assert "test.jsonl; data.root must be a folder of train.jsonl and test.jsonl" in said(tmp_path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"sentences": ["a"', "delimiter"), (b"\xff\xfe\xff", "decode"), (b'["a"]', "'sentences'"), (b'{"headings": []}', "'sentences'"),
        (b'{"sentences": "a"}', "'sentences'"), (b'{"sentences": ["a", 1]}', "'sentences'"),
        (b'{"sentences": ["a"], "headings": []}', "'headings' must be a list with one entry for each of the 1 sentences"),
        (b'{"sentences": ["a"], "truth": "p"}', "'truth' must be a list"),
        (b'{"sentences": ["a"], "truth": ["Plan"]}', """'truth' has "Plan", where data.classes allows plan, other, or null"""),
        (b'{"sentences": ["a"], "target": "no"}', "'target' must be true or false"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_note_is_named(tmp_path, line, reason):
    write(tmp_path, TRAIN, TEST)
    with (tmp_path / "train.jsonl").open("ab") as stream:
        stream.write(b"\n" + line)
    assert "train.jsonl, line 4: " in (message := said(tmp_path))
    assert reason in message


def test_too_little_is_said(tmp_path):
    write(tmp_path, [{"sentences": ["a"], "truth": ["plan"]}], TEST)
    assert "train.jsonl has no sentence labelled by headings" in said(tmp_path)
    write(tmp_path, TRAIN, TEST)
    assert "test.jsonl has no sentence labelled by truth, of the target hospital" in said(tmp_path, test="target")
    assert "11 words of the source hospital are less than one window of data.length=12" in said(tmp_path, view="words", length=12)


BASE = {
    "loss": "ce", "optimizer": "adam", "schedule": "constant", "noise": "none", "sparsity": "none", "softmax": "softmax", "device": "cpu",
    "trainer": {"name": "standard", "duration": "2it", "batch_size": 2},
}  # fmt: skip


@pytest.mark.parametrize("model", ["text_cnn", "ngrams"])
def test_sentences_are_classified(tmp_path, model):
    tree = {
        **BASE, "data": {"name": "notes", "root": write(tmp_path, TRAIN, TEST), "length": 8}, "model": {"name": model, "vocabulary": 20},
        "learner": "supervised", "eval": {k: {"name": k} for k in ("positive_f1", "memorisation", "loss")},
    }  # fmt: skip
    summary = assemble(tree, lambda row: None).run()
    assert {"train/acc_noisy_last", "test/loss_last"} <= set(summary)


def test_words_are_tagged(tmp_path):
    root = write(tmp_path, HOSPITALS, [{"sentences": ["a b c"], "truth": ["S"], "headings": ["O"]}])
    tree = {
        **BASE, "data": {"name": "notes", "root": root, "length": 3, **SOAP}, "model": {"name": "bilstm", "width": 4}, "learner": "crf",
        "with": {"transfer": {"name": "transfer", "pretraining": "1it", "finetuning": "1it"}}, "eval": {"tags": {"name": "tags"}},
    }  # fmt: skip
    summary = assemble(tree, lambda row: None).run()
    assert summary["test/rules_f1_last"] == 0
    assert 0 <= summary["test/f1_last"] <= 100
