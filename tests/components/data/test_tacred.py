"""tacred: a few sentences as the LDC's files have them, read back word by word; what is missing, damaged or odd is said."""

import json

import pytest
import torch

from runner import UserError
from runner.components.data.tacred import build
from runner.execution.assemble import assemble

MADE = {
    "train": [
        ("a", "He founded Acme Works in Ohio .", (0, 0, "PERSON"), (2, 3, "ORGANIZATION"), "org:founded_by"),
        ("b", "Acme Works in Ohio said he left .", (0, 1, "ORGANIZATION"), (3, 3, "STATE_OR_PROVINCE"), "no_relation"),
        ("c", "he , 41 , left in May .", (0, 0, "PERSON"), (2, 2, "NUMBER"), "per:age"),
        ("d", "May left .", (0, 0, "PERSON"), (0, 0, "PERSON"), "no_relation"),
    ],
    "dev": [("e", "May , 41 , sang in Ohio .", (0, 0, "PERSON"), (2, 2, "NUMBER"), "per:age")],
    "test": [("f", "Ohio left He .", (2, 2, "PERSON"), (0, 0, "CITY"), "no_relation"), ("g", "in May .", (1, 1, "PERSON"), (0, 0, "DATE"), "org:founded_by")],
}


def sample(name, text, subject, thing, relation):
    words, start = text.split(), {"id": name, "docid": "x", "relation": relation}
    start |= {"token": words, "subj_start": subject[0], "subj_end": subject[1], "obj_start": thing[0], "obj_end": thing[1]}
    return start | {"subj_type": subject[2], "obj_type": thing[2], "stanford_ner": ["O"] * len(words), "stanford_head": [0] * len(words)}


@pytest.fixture
def root(tmp_path):
    for split, rows in MADE.items():
        (tmp_path / f"{split}.json").write_text(json.dumps([sample(*row) for row in rows]))
    return tmp_path


def revise(root, labels):
    (root / "Re-TACRED").mkdir(exist_ok=True)
    (root / "Re-TACRED" / "train_id2label.json").write_text(json.dumps(labels))


def spelled(data, split, row, words):
    """Whether a row says these words, given as in the file with - for an unknown one, wherever the ids of the training sentences are known."""
    known = {0: "", 1: "-"}
    for x, text in zip(data.train.x.long().tolist(), TRAINING, strict=True):
        for k, word in zip(x, text.split(), strict=False):
            assert known.setdefault(k, word) in (word, "-"), (known[k], word)
    return [known[k] for k in data.splits()[split].x[row].long().tolist() if k] == words.split()


TRAINING = [
    "SUBJ-PERSON founded OBJ-ORGANIZATION OBJ-ORGANIZATION in Ohio .",
    "SUBJ-ORGANIZATION SUBJ-ORGANIZATION in OBJ-STATE_OR_PROVINCE said he left .",
    "SUBJ-PERSON , OBJ-NUMBER , left in May .",
    "OBJ-PERSON left .",
]


def test_subject_and_object_are_masked_and_the_rest_are_ids(root):
    data = build(str(root), length=12, min_count=1)
    assert (data.info.task, data.info.shape, data.info.outputs) == ("classification", (12,), 3)
    assert data.train.x.shape == (4, 12)
    for row, words in enumerate(TRAINING):
        assert spelled(data, "train", row, words)
    assert spelled(data, "val", 0, "SUBJ-PERSON , OBJ-NUMBER , - in Ohio .")
    assert spelled(data, "test", 0, "- left SUBJ-PERSON .")
    assert spelled(data, "test", 1, "- SUBJ-PERSON .")
    assert len({k for row in data.train.x.tolist() for k in row}) == 1 + len({w for t in TRAINING for w in t.split()})
    assert data.train.clean is None


def test_relations_are_numbered_and_none_is_the_last(root):
    data = build(str(root))
    assert data.train.y.tolist() == [0, 2, 1, 2]
    assert data.val.y.tolist() == [1]
    assert data.test.y.tolist() == [2, 0]


def test_rare_tokens_are_unknown_and_long_sentences_cut(root):
    data = build(str(root), length=4, min_count=2)
    assert data.train.x.shape == (4, 4)
    assert spelled(data, "train", 0, "SUBJ-PERSON - OBJ-ORGANIZATION OBJ-ORGANIZATION")
    assert spelled(data, "train", 1, "SUBJ-ORGANIZATION SUBJ-ORGANIZATION in -")
    assert build(str(root), min_count=3).train.x.unique().tolist() == [0, 1, 2, 3, 4]  # full stops, `in` and `left`
    few = build(str(root), vocabulary=3, min_count=1)
    assert few.train.x[3].tolist() == [1, 1, 2] + [0] * 97  # the full stop is the most frequent
    assert few.info.vocabulary == 3
    assert build(str(root), vocabulary=2).train.x.max() == 1


def test_words_are_dropped_in_training_alone(root):
    data = build(str(root), length=10, min_count=1, word_dropout=0.5)
    assert data.val.augment is data.test.augment is build(str(root)).train.augment is None
    x = data.train.x.repeat(500, 1)
    dropped = data.train.augment(x, torch.Generator().manual_seed(0))
    assert dropped.dtype == x.dtype
    assert (dropped[x == 0] == 0).all()
    assert ((dropped == x) | (dropped == 1)).all()
    assert (dropped == 1)[x > 0].double().mean().item() == pytest.approx(0.5, abs=0.02)


def test_revised_labels_are_the_clean_ones(root):
    with pytest.raises(UserError, match=r"looked in .*train_id2label\.json.*data\.revised=false"):
        build(str(root), revised=True)
    revise(root, {"b": "org:founded_by", "c": "no_relation", "d": "per:identity", "z": "per:age"})
    train = build(str(root), revised=True).train
    assert train.y.tolist() == [0, 2, 1, 2]
    assert train.clean.tolist() == [0, 0, 2, 2]  # a is not in the file, d has a relation that TACRED has not
    revise(root, {"z": "per:age"})
    with pytest.raises(UserError, match="none of the samples"):
        build(str(root), revised=True)


def said(root, **options) -> str:
    with pytest.raises(UserError) as error:
        build(str(root), **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["train.json", "dev.json", "test.json"])
def test_missing_and_damaged_files_are_named(root, name):
    whole = (root / name).read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"\xff\xfe\x00\xb1"):
        (root / name).write_bytes(damage)
        assert f"{name} cannot be read" in said(root)
    for other in (b"[]", b"{}", b"3"):
        (root / name).write_bytes(other)
        assert f"{name} is no JSON array of samples" in said(root)
    (root / name).unlink()
    assert f"{name}; set data.root" in said(root)
    assert "LDC2018T24" in said(root)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"token": None}, "token must be a list"), ({"token": "in May ."}, "token must be a list"), ({"relation": None}, "relation a name"),
        ({"relation": "per:spouse"}, "a relation that training has not: per:spouse"), ({"subj_end": 3}, "subj_start=1 and subj_end=3 are no place among 3"),
        ({"obj_start": -1}, "no place"), ({"obj_start": 1}, "no place"), ({"obj_end": "0"}, "is wrong"),
    ],
)  # fmt: skip
def test_a_wrong_sample_is_said(root, change, what):
    rows = [sample(*row) for row in MADE["test"]]
    (root / "test.json").write_text(json.dumps([rows[0], rows[1] | change]))
    assert what in said(root)
    assert "test.json" in said(root)
    del rows[0]["obj_type"]
    (root / "test.json").write_text(json.dumps(rows))
    assert "test.json has a sample without 'obj_type'" in said(root)
    (root / "test.json").write_text(json.dumps([7]))
    assert "is wrong" in said(root)


@pytest.mark.parametrize("strategy", ["intrinsic", "extrinsic"])
def test_it_trains(root, strategy):
    revise(root, {"b": "org:founded_by"})
    tree = {
        "data": {"name": "tacred", "root": str(root), "length": 12, "vocabulary": 30, "word_dropout": 0.1, "revised": True},
        "model": {"name": "text_cnn", "vocabulary": 30, "width": 4, "filters": 2}, "loss": "ce", "learner": "supervised", "optimizer": "adam",
        "schedule": "constant", "noise": "none", "sparsity": "none", "softmax": "softmax", "device": "cpu",
        "with": {"knn_cleaning": {"name": "knn_cleaning", "warmup": "1it", "neighbours": 2, "clean": 1.0, "strategy": strategy}},
        "trainer": {"name": "standard", "duration": "2it", "batch_size": 4},
        "eval": {"positive_f1": {"name": "positive_f1", "splits": ["val", "test"]}, "memorisation": {"name": "memorisation"}},
    }  # fmt: skip
    summary = assemble(tree, lambda row: None).run()
    assert {"val/f1_last", "test/f1_last", "train/memorised_last"} <= set(summary)
