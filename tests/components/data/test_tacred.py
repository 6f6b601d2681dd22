"""tacred: a few sentences as the LDC's files have them, read back word by word; what is missing, damaged or odd is said."""

import json

import pytest
import torch
from tacred_files import MADE, SPEECH, sample, write

from runner import UserError, contracts
from runner.components.data.tacred import build
from runner.execution.assemble import assemble


@pytest.fixture
def root(tmp_path):
    return write(tmp_path)


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


@pytest.mark.parametrize("length", [10, 4, 2])
def test_tags_and_positions_stand_under_the_words(root, length):
    data, words = build(str(root), inputs="all", length=length, min_count=1), build(str(root), length=length, min_count=1)
    assert data.info.shape == (5, length)
    assert data.info.vocabulary == words.info.vocabulary == len(data.info.words)
    speech, entities = {"???": 1}, {}
    for name, split in data.splits().items():
        assert split.x.dtype == torch.float32
        assert torch.equal(split.x[:, 0], words.splits()[name].x)
        for x, (_, text, subject, thing, _) in zip(split.x.long(), MADE["dev" if name == "val" else name], strict=True):
            said = text.split()[:length]
            assert (x[:, len(said) :] == 0).all()
            tags, classes, *places = x[1:, : len(said)].tolist()
            assert tags == [speech.setdefault(SPEECH.get(w, "NNP"), k) for w, k in zip(said, tags, strict=True)]
            assert classes == [entities.setdefault(w == "May", k) for w, k in zip(said, classes, strict=True)]
            for place, (first, last, _) in zip(places, (subject, thing), strict=True):
                away = [k - first if k < first else k - last if k > last else 0 for k in range(len(said))]
                assert place == [min(max(k + length, 1), 2 * length - 1) for k in away]
    assert len(set(speech.values())) == len(speech) > 5
    assert len(set(entities.values())) == len(entities) == 2
    assert all(2 <= k < most for known, most in ((speech, 47), (entities, 15)) for name, k in known.items() if name != "???")


@pytest.mark.parametrize("length", [10, 4, 2])
def test_the_tree_stands_under_the_rest(root, length):
    data, rest = (build(str(root), inputs=inputs, length=length, min_count=1) for inputs in ("tree", "all"))
    assert data.info.shape == (6, length)
    for name, split in data.splits().items():
        assert torch.equal(split.x[:, :5], rest.splits()[name].x)
        for x, row in zip(split.x.long(), MADE["dev" if name == "val" else name], strict=True):
            heads = sample(*row)["stanford_head"]
            assert [int(head) if int(head) <= length else 0 for head in heads[:length]] == x[5, : len(heads)].tolist()
            assert (x[5, len(heads) :] == 0).all()
    assert data.train.x[0, 5].tolist() == ([2, 0, 4, 2, 6, 2, 2, 0, 0, 0][:length] if length > 2 else [2, 0])


def test_the_words_behind_the_ids_are_told(root):
    data = build(str(root), length=10, min_count=2)
    assert data.info.words[:2] == ("", "")
    assert data.info.words[2] == "."
    ids = data.train.x[1].long().tolist()  # Acme Works in OBJ said he left .
    assert [data.info.words[k] for k in ids] == ["SUBJ-ORGANIZATION", "SUBJ-ORGANIZATION", "in", "", "", "", "left", ".", "", ""]
    assert data.info.vocabulary == len(data.info.words) == len(set(data.info.words)) + 1


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


@pytest.mark.parametrize("inputs", ["all", "tree"])
def test_words_alone_are_dropped(root, inputs):
    data = build(str(root), inputs=inputs, length=10, min_count=1, word_dropout=0.5)
    x = data.train.x.repeat(200, 1, 1)
    dropped = data.train.augment(x, torch.Generator().manual_seed(0))
    words = build(str(root), length=10, min_count=1, word_dropout=0.5).train.augment(x[:, 0], torch.Generator().manual_seed(0))
    assert torch.equal(dropped[:, 1:], x[:, 1:])
    assert torch.equal(dropped[:, 0], words)
    assert (dropped[:, 0] == 1)[x[:, 0] > 0].double().mean().item() == pytest.approx(0.5, abs=0.03)


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


@pytest.mark.parametrize("field", ["stanford_pos", "stanford_ner"])
@pytest.mark.parametrize("value", [None, "NN O", ["NN"], ["NN", "NN", 3], ["NN"] * 4])
def test_wrong_tags_are_said_where_they_are_asked_for(root, field, value):
    rows = [sample(*row) for row in MADE["test"]]
    rows[1][field] = value
    (root / "test.json").write_text(json.dumps(rows))
    assert f"test.json has a sample whose {field} is no list of 3 tags" in said(root, inputs="all")
    del rows[1][field]
    (root / "test.json").write_text(json.dumps(rows))
    assert f"{field} is no list" in said(root, inputs="all")
    assert len(build(str(root)).test) == 2


@pytest.mark.parametrize("value", [None, "2 0 2", ["2", "0"], ["2", "0", "4"], ["2", "0", "-1"], ["2", "0", None], ["2", "0", "x"], 3])
def test_wrong_heads_are_said_where_they_are_asked_for(root, value):
    rows = [sample(*row) for row in MADE["test"]]
    rows[1]["stanford_head"] = value
    (root / "test.json").write_text(json.dumps(rows))
    assert "test.json has a sample whose stanford_head is no list of 3 numbers in [0, 3], one a word, as data.inputs=tree needs" in said(root, inputs="tree")
    del rows[1]["stanford_head"]
    (root / "test.json").write_text(json.dumps(rows))
    assert "stanford_head is no list" in said(root, inputs="tree")
    assert len(build(str(root), inputs="all").test) == 2


CNN = {"name": "text_cnn", "vocabulary": 30, "width": 4, "filters": 2}
LSTM = {"name": "pa_lstm", "vocabulary": 30, "width": 4, "features": 2, "units": 3, "attention": 3}
GCN = {"name": "c_gcn", "vocabulary": 30, "width": 4, "features": 2, "units": 12}


@pytest.mark.parametrize(
    ("strategy", "inputs", "model"), [("intrinsic", "words", CNN), ("extrinsic", "words", CNN), ("intrinsic", "all", LSTM), ("intrinsic", "tree", GCN)]
)
def test_it_trains(root, strategy, inputs, model):
    revise(root, {"b": "org:founded_by"})
    tree = {
        "data": {"name": "tacred", "root": str(root), "inputs": inputs, "length": 12, "vocabulary": 30, "word_dropout": 0.1, "revised": True},
        "model": model, "loss": "ce", "learner": "supervised", "optimizer": "adam",
        "schedule": "constant", "noise": "none", "sparsity": "none", "softmax": "softmax", "device": "cpu",
        "with": {"knn_cleaning": {"name": "knn_cleaning", "warmup": "2it", "neighbours": 2, "clean": 1.0, "strategy": strategy}},
        "trainer": {"name": "standard", "duration": "4it", "batch_size": 4},
        "eval": {"positive_f1": {"name": "positive_f1", "splits": ["val", "test"]}, "memorisation": {"name": "memorisation"}},
    }  # fmt: skip
    first, again = contracts.trace(tree), contracts.trace(tree)
    contracts.same(first, again)
    assert {"val/f1", "test/f1", "train/memorised"} <= set(first[0][-1])
    start = assemble(tree).state.weights()
    assert inputs == "words" or not [name for name, w in first[1].items() if torch.equal(w, start[name])]
