"""Recipes at scale=paper against the numbers in the authors' code."""

import json
import math
import re
import shlex
import shutil
import subprocess

import pytest

from runner.components.data._math import written
from runner.components.sparsity._masks import counts
from runner.config import compose, recipes
from runner.config.bind import bind
from runner.core.clock import Clock
from runner.report import cells


@pytest.fixture(scope="module")
def composed():
    with compose.composer() as call:
        yield lambda *overrides: bind(call(compose.rewrite([*overrides, "scale=paper"])))


def factors(config, epochs):
    """The factors of the learning rate at the beginning of epochs, of 10 steps each."""
    length = int(config.one("trainer").args["duration"].removesuffix("ep"))
    factor = config.one("schedule").build()(Clock(10, 10 * length))
    return [factor(10 * epoch) for epoch in epochs]


@pytest.mark.parametrize("recipe", ["co_teaching", "co_teaching_plus", "jocor", "small_loss"])
def test_the_rate_of_co_teaching_and_its_kin_falls_to_zero_from_epoch_80_of_200_on(composed, recipe):
    """alpha_plan of main.py in bhanML/Co-teaching and xingruiyu/coteaching_plus, of algorithm/jocor.py in hongxin001/JoCoR."""
    epochs = [0, 79, 80, 81, 140, 199]
    expected = [1.0 if i < 80 else (200 - i) / (200 - 80) for i in epochs]
    assert factors(composed(f"+recipe=noise/{recipe}"), epochs) == pytest.approx(expected)


def test_cdr(composed):
    """xiaoboxia/CDR, main.py: load_data sets 200 epochs for CIFAR-10."""
    config = composed("+recipe=noise/cdr")
    assert {"duration": "200ep", "batch_size": 64}.items() <= config.one("trainer").args.items()
    assert factors(config, [39, 40, 79, 80, 199]) == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])


def test_elr_under_asymmetric_noise(composed):
    """shengliu66/ELR, ELR/config_cifar10_asym.json."""
    spec = cells.tables("noise/elr", "paper")["t1_asymmetric"]
    found = {cell.row: cell.overrides for cell in cells.of_table("noise/elr", spec, "paper", [0]) if "0.4" in cell.col}
    (elr,) = composed(*found["elr"])["with"]
    assert (elr.args["lam"], elr.args["beta"]) == (1.0, 0.9)
    assert list(found) == ["ce", "forward", "gce", "elr"]


def test_sop(composed):
    """shengliu66/SOP, config_cifar100.json: eta_min 0.0002 at lr 0.02."""
    assert factors(composed("+recipe=noise/sop"), [0, 150, 300]) == pytest.approx([1, 0.505, 0.01])


def test_logitclip(composed):
    """hongxin001/LogitClip, train.py and algorithms/base_framework.py."""
    config = composed("+recipe=noise/logitclip")
    assert factors(config, [79, 80, 139, 140, 199]) == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])
    assert config.one("model").args == {"depth": 40, "width": 2, "dropout": 0.3}


def test_alim(composed):
    """zeroQiaoba/ALIM, example.sh and adjust_learning_rate_V1 of utils/utils_algo.py: down to a thousandth."""
    config = composed("+recipe=noise/alim")
    assert factors(config, [0, 500, 1000]) == pytest.approx([1, 0.5005, 0.001])
    assert (config.one("model").args["depth"], config["with"][0].args["warmup"]) == (18, "80ep")


def test_ncod(composed):
    """wanifarooq/NCOD, implementation/configuration.json: PreActResNet34."""
    assert {"depth": 34, "preact": True}.items() <= composed("+recipe=noise/ncod").one("model").args.items()


def test_marvelovd(composed):
    """wkfdb/MarvelOVD, configs/coco_ssod.yaml and Base-RCNN-FPN.yaml, train_net.py, tools/utils.py; facebookresearch/detectron2, config/defaults.py."""
    config = composed("+recipe=noise/marvelovd")
    trainer, optimizer, (marvelovd,) = config.one("trainer").args, config.one("optimizer").args, config["with"]
    assert {"duration": "90001it", "batch_size": 16, "eval_every": "5000it", "precision": "fp32", "clip": None}.items() <= trainer.items()
    assert optimizer == {"lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}
    factor = config.one("schedule").build()(Clock(7000, 90001))
    assert [factor(s) for s in (0, 500, 1000, 59999, 60000, 80000, 90000)] == pytest.approx([0.001, 0.5005, 1, 1, 0.1, 0.01, 0.01], abs=1e-5)
    assert (marvelovd.args["threshold"], marvelovd.args["burn_in"]) == (0.9, "501it")
    model, learner = config.one("model"), config.one("learner")
    assert (model.name, learner.name, config.one("data").args["boxes"]) == ("model/faster_rcnn", "learner/detector", True)
    assert {"arch": "resnet50", "hidden": 1024, "proposals": 1000, "least": 0.05, "detections": 100}.items() <= model.args.items()
    assert learner.args == {"flip": 0.5, "strong": True, "regions": 512, "positive": 0.25, "anchors": 256, "beta": 0.0}
    assert model.args["embeddings"] == config["noise"][0].args["path"]
    (noise,), (detection, _) = config["noise"], config["eval"]
    classes = config.one("data").args["classes"]
    assert len(set(classes)) == 65
    novel = "umbrella cow cup bus keyboard skateboard dog couch tie snowboard sink elephant cake scissors airplane cat knife"
    assert [classes[c] for c in noise.args["novel"]] == novel.split()
    assert noise.args["least"] == 0.5
    assert (detection.args["novel"], detection.args["least"]) == (noise.args["novel"], 0.05)


def test_c_gcn(composed):
    """qipeng/gcn-over-pruned-trees, train.py and train_cgcn.sh."""
    spec = cells.tables("noise/tacred_noise", "paper")["t1"]
    (found,) = (cell.overrides for cell in cells.of_table("noise/tacred_noise", spec, "paper", [0]) if (cell.row, cell.col) == ("intrinsic", "c_gcn"))
    config = composed(*found)
    expected = {"width": 300, "features": 30, "units": 200, "depth": 2, "hidden": 2, "prune": 1, "dropout": 0.5}
    assert config.one("model").name == "model/c_gcn"
    assert expected.items() <= config.one("model").args.items()
    assert {"lr": 0.3, "momentum": 0.0, "weight_decay": 0.0}.items() <= config.one("optimizer").args.items()
    assert {"batch_size": 50, "clip": 5.0}.items() <= config.one("trainer").args.items()
    assert (config.one("data").args["inputs"], config.one("data").args["word_dropout"]) == ("tree", 0.04)
    hooks = {hook.name.removeprefix("with/"): hook.args for hook in config["with"]}
    assert hooks["feature_penalty"] == {"strength": 0.003, "module": "pooled"}
    assert hooks["knn_cleaning"]["warmup"] == "100ep"


def test_cutout(composed):
    """uoguelph-mlrg/Cutout, README.md and train.py: ResNet18 on CIFAR-10."""
    config = composed("+recipe=noise/cutout")
    assert factors(config, [59, 60, 119, 120, 159, 160, 199]) == pytest.approx([1, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008])
    assert config.one("optimizer").args == {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
    assert (config["with"][0].args["side"], config.one("model").args["depth"], config.one("trainer").args["batch_size"]) == (16, 18, 128)


def test_cutmix(composed):
    """The paper's section 4.1.2, and clovaai/CutMix-PyTorch, README.md and train.py."""
    config = composed("+recipe=noise/cutmix")
    assert factors(config, [0, 149, 150, 224, 225, 299]) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert config.one("optimizer").args == {"lr": 0.25, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True}
    assert config["with"][0].args == {"alpha": 1.0, "prob": 0.5}
    assert (config.one("model").args, config.one("trainer").args["batch_size"]) == ({"depth": 200, "widening": 240}, 64)


def test_confidence_penalty(composed):
    """The paper's section 4.1.2; liuzhuang13/DenseNet, opts.lua, train.lua and README.md for what it leaves out."""
    config = composed("+recipe=noise/confidence_penalty")
    assert factors(config, [0, 149, 150, 224, 225, 299]) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert config.one("optimizer").args == {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True}
    assert config.one("model").args == {"depth": 40, "growth": 12, "dropout": 0.2}
    assert (config["with"][0].args["beta"], config.one("data").args["augment"], config.one("trainer").args["batch_size"]) == (0.1, "none", 50)


def test_mixup(composed):
    """facebookresearch/mixup-cifar10, train.py and models/resnet.py; its rate falls one epoch later, since it is set after the epoch."""
    config = composed("+recipe=noise/mixup")
    assert factors(config, [99, 100, 149, 150, 199]) == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])
    assert config.one("optimizer").args == {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}
    assert {"depth": 18, "preact": True}.items() <= config.one("model").args.items()
    assert config.one("trainer").args["batch_size"] == 128


def test_mean_teacher(composed):
    """CuriousAI/mean-teacher, pytorch/experiments/cifar10_test.py, 1,000 labels."""
    config = composed("+recipe=noise/mean_teacher")
    assert factors(config, [0, 105, 179]) == pytest.approx([1, 0.5, (1 + math.cos(math.pi * 179 / 210)) / 2])
    assert config.one("optimizer").args == {"lr": 0.05, "momentum": 0.9, "weight_decay": 2e-4, "nesterov": True}
    assert config.one("learner").args == {"weight": 100.0, "decay": 0.97, "ramp": "5ep", "sigma": 0.0}


def test_pls_lsa(composed):
    """PaulAlbert31/LSA, train.sh, main.py and trainers.py on CNWL; features after the second stage (--l 1), 200 epochs behind the contrastive start."""
    config = composed("+recipe=noise/pls_lsa")
    learner = {"detect": "alternate", "warmup": "1ep", "threshold": 0.95, "gamma": 2.0, "temperature": 0.2, "alpha": 1.0, "balance": 0.0, "layer": "blocks.3"}
    assert learner.items() <= config.one("learner").args.items()
    assert config.one("optimizer").args == {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}
    assert {"duration": "400ep", "batch_size": 256}.items() <= config.one("trainer").args.items()


def test_supervision_quality_reasoning(composed):
    """hexuan21/Weak-to-Strong, README.md: cosine with a tenth of two epochs to warm up, 2e-5, rows of 2,048, 2 x 8 of them in a step; run_inference.py."""
    config = composed("+recipe=noise/supervision_quality_reasoning")
    assert (config.one("model").args["path"], config.one("model").args["rank"]) == ("~/.cache/runner/reasoning_base", 0)
    assert config.one("optimizer").args["lr"] == 2e-5
    assert {"duration": "2ep", "batch_size": 16, "precision": "bf16"}.items() <= config.one("trainer").args.items()
    data = config.one("data").args
    assert {"length": 2048, "level": 4, "most_level": 5, "tokenizer": "~/.cache/runner/reasoning_base"}.items() <= data.items()
    assert data["test"].endswith("/MATH_test500.jsonl")
    template = "\n\n<|start_header_id|>system<|end_header_id|>\n\n<|eot_id|>\n\n\n<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>\n\n\n"
    template += "<|start_header_id|>assistant<|end_header_id|>\n\n\n"
    assert data["prompt"] == template  # transformers' render_jinja_template of its LLAMA3_CHAT_TEMPLATE with an empty system message
    (boxed,) = config["eval"]
    drawn = {"temperature": 0.6, "top_k": 50, "top_p": 0.9}
    assert (boxed.option, boxed.args) == ("boxed", {"problems": None, "tokens": 1680, "splits": ["test"], **drawn})
    assert factors(config, [0, 0.1, 0.2, 1.1, 2]) == pytest.approx([1 / 3, 2 / 3, 1, 0.5, 0])


def test_the_first_stage_of_supervision_quality_reasoning(composed):
    """The command of the recipe's notes: the same hyper-parameters, as the README says of both stages."""
    notes = " ".join(recipes.read("noise/supervision_quality_reasoning")["notes"].split())
    command = notes[notes.index("runner +recipe=") :].partition(";")[0]
    _, recipe, scale, *changed = [word.replace("$HOME", "/somebody") for word in shlex.split(command)]
    assert scale == "scale=paper"
    first, second = composed(recipe, *changed), composed(recipe)
    model, data = first.one("model").args, first.one("data").args
    assert model["path"] == data["tokenizer"] == "meta-llama/Meta-Llama-3-8B"
    told = {"level": 1, "most_level": 3, "also": "orca.jsonl", "outcome_error": 0, "step_error": 0, "tokenizer": model["path"]}
    assert data == second.one("data").args | told
    for group in ("optimizer", "schedule", "trainer", "loss", "learner"):
        assert first.one(group).args == second.one(group).args
    (export,) = first["with"]
    assert export.args["path"].replace("/somebody", "~") == second.one("model").args["path"]


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
def test_the_files_of_supervision_quality_reasoning(tmp_path):
    """The jq programs of the recipe's notes, on data as pipeline/*.py and data/collect_test_data.py of hexuan21/Weak-to-Strong write them."""
    notes = " ".join(recipes.read("noise/supervision_quality_reasoning")["notes"].split())
    answer = lambda k: {"task": f"t{k}", "pos_ans": f"right {k}", "neg_ans": f"wrong {k}"}
    pairs = [{"ori_id": f"numina_{k}", "original": answer(k), "subtask_1": answer(f"{k}a"), "subtask_2": answer(f"{k}b")} for k in range(20)]
    tests = [{"question": "q", "ground_truth": "\\frac{1}{2}"}]
    sampled = [{"ori_id": "math_0", "task": "t", "ground_truth": "right", "sample1": "so\n\\boxed{5}"}]
    rephrased = [{"ori_id": "math_0", "task": "t", "pos_ans": "right", "neg_ans": "wrong"}]
    made = []
    for program, given in zip(re.findall(r"'([^']*\{problem[^']*)'", notes), (tests, pairs, sampled, pairs, rephrased), strict=True):
        said = subprocess.run(["jq", "-c", program], input=json.dumps(given), capture_output=True, text=True, check=True).stdout
        (tmp_path / "told.jsonl").write_text(said)
        made.append(written(str(tmp_path / "told.jsonl"), "data.also"))
    assert made[0] == [("q", "\\boxed{\\frac{1}{2}}")]
    assert made[1] == [(f"t{k}", f"{'right' if k in (0, 10) else 'wrong'} {k}") for k in range(20)]
    assert made[2] == [("t", "so\n\\boxed{5}")]
    assert made[3] == [(f"t{k}{part}", f"right {k}{part}") for k in range(20) for part in "ab"]
    assert made[4] == [("t", "wrong")]


def rows_of(recipe, table):
    """The overrides of each row of a table at scale=paper, in its first column."""
    return {cell.row: cell.overrides for cell in reversed(cells.of_table(recipe, cells.tables(recipe, "paper")[table], "paper", [0]))}


def test_rigl(composed):
    """google-research/rigl, cifar_resnet/resnet_train_eval.py and resnet_model.py; alpha, its cosine and the interval from the paper's section 3."""
    config = composed("+recipe=sparsity/rigl")
    assert config.one("model").args == {"depth": 22, "width": 2, "dropout": 0.3}
    assert config.one("optimizer").args == {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
    assert {"duration": "97656it", "batch_size": 128}.items() <= config.one("trainer").args.items()
    (rigl,) = config["sparsity"]
    assert {"alpha": 0.3, "every": "100it"}.items() <= rigl.args.items()
    assert rigl.args["end"] * 97656 == pytest.approx(75000, abs=1)
    factor = config.one("schedule").build()(Clock(391, 97656))
    assert [factor(s) for s in (0, 29999, 30000, 60000, 90000)] == pytest.approx([1, 1, 0.2, 0.04, 0.008])


def test_the_reproduction_of_rigl(composed):
    """varun19299/rigl-reproducibility, conf/specific/cifar10_wrn_22_2_*.yaml, models/__init__.py, makefiles/cifar10.mk: 88,000 steps of 45,000 images."""
    rows = rows_of("sparse_training", "methods")
    for row in rows.values():
        config = composed(*row)
        assert config.one("data").args["val"] == 0.1
        assert config.one("model").args["dropout"] == 0.3
    (evolved,) = composed(*rows["set"])["sparsity"]
    assert {"distribution": "erk", "fraction": 0.3, "every": "100it", "anneal": "cosine"}.items() <= evolved.args.items()
    pruned, alone = composed(*rows["magnitude"]), composed(*rows_of("sparsity/magnitude", "sparsities")["global"])
    for config in (pruned, alone):
        (pruning,) = config["sparsity"]
        assert {"scope": "global", "every": "100it"}.items() <= pruning.args.items()
        assert [88000 * pruning.args[k] for k in ("begin", "end")] == pytest.approx([700, 65918], abs=10)
        factor = config.one("schedule").build()(Clock(352, 88000))
        assert [factor(s) for s in (0, 3500, 33519, 33520, 63520, 87999)] == pytest.approx([1 / 3501, 1, 1, 0.2, 0.04, 0.04])


def test_random_pruning(composed):
    """VITA-Group/Random_Pruning, CIFAR/main.py, models/cifar_resnet.py and README.md."""
    config = composed("+recipe=sparsity/static")
    assert config.one("model").args == {"depth": 20, "preact": False, "project": True, "width": None}
    assert config.one("optimizer").args == {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
    assert factors(config, [79, 80, 119, 120, 159]) == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])


def test_lottery(composed):
    """facebookresearch/open_lth, models/cifar_resnet.py; random masks as sparse as the tickets of eleven rounds."""
    rows = {name: composed(*row) for name, row in rows_of("sparsity/lottery", "tickets").items()}
    (ticket,), (rewound,), (random,) = (rows[name]["sparsity"] for name in ("ticket", "rewound", "random"))
    assert (ticket.args["rewind"], rewound.args["rewind"]) == ("0it", "1000it")
    assert {"rate": 0.2, "scope": "global"}.items() <= ticket.args.items()
    assert random.args["sparsity"] == pytest.approx(1 - 0.8 ** (ticket.args["rounds"] - 1), abs=1e-4)
    assert rows["dense"].one("model").args["project"]
    assert rows["dense"].one("optimizer").args == {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}
    scopes = {name: composed(*row)["sparsity"][0].args["scope"] for name, row in rows_of("sparsity/lottery", "rounds").items()}
    assert scopes == {"layer": "layer", "global": "global"}


def test_set(composed):
    """dcmocanu/sparse-evolutionary-artificial-neural-networks, set_mlp_keras_cifar10.py: epsilon (in + out) weights in each hidden layer, a dense output."""
    config = composed("+recipe=sparsity/set")
    assert {"widths": [4000, 1000, 4000], "activation": "srelu", "dropout": 0.3}.items() <= config.one("model").args.items()
    (evolved,) = config["sparsity"]
    shapes = {"a": (4000, 3072), "b": (1000, 4000), "c": (4000, 1000), "out": (10, 4000)}
    found = counts(shapes, evolved.args["sparsity"], evolved.args["distribution"])
    assert found["out"] == 40_000
    for name in "abc":
        assert found[name] == pytest.approx(20 * sum(shapes[name]), rel=0.001)
    assert (evolved.args["fraction"], evolved.args["every"], config.one("trainer").args["batch_size"]) == (0.3, "1ep", 100)


def test_sr_ste(composed):
    """aojunzz/NM-sparsity, classification/configs/config_resnet50_2by4.yaml, train_imagenet.py and models/resnet.py."""
    config = composed("+recipe=sparsity/nm")
    assert config.one("model").args["arch"] == "resnet50"
    assert config.one("optimizer").args == {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-5, "nesterov": False}
    assert config["sparsity"][0].args == {"n": 2, "m": 4, "lam": 2e-4, "dense": ["fc"]}
    assert factors(config, [0, 5, 62.5, 120]) == pytest.approx([1 / 51, 1, 0.5, 0])


def test_trades(composed):
    """yaodongyu/TRADES, train_trades_cifar10.py (epochs counted from 1), models/wideresnet.py and pgd_attack_cifar10.py: inputs in [0, 1]."""
    config = composed("+recipe=robust/trades")
    assert config.one("model").args == {"depth": 34, "width": 10, "dropout": 0.0}
    assert (config.one("data").args["normalise"], config.one("data").args["augment"]) == (False, "crop_flip")
    assert config.one("learner").args == {"beta": 6.0, "epsilon": 0.031, "step": 0.007, "steps": 10, "low": 0.0, "high": 1.0}
    assert {"epsilon": 0.031, "step": 0.003, "steps": 20, "low": 0.0, "high": 1.0}.items() <= config["probe"][0].args.items()
    assert config.one("optimizer").args == {"lr": 0.1, "momentum": 0.9, "weight_decay": 2e-4, "nesterov": False}
    assert factors(config, [0, 73, 74, 75]) == pytest.approx([1, 1, 0.1, 0.1])
    assert {"duration": "76ep", "batch_size": 128}.items() <= config.one("trainer").args.items()


def test_lookahead(composed):
    """uoguelph-mlrg/Cutout, train.py: epochs and steps; sail-sg/SLRLA-optimizer, README.md and main.py: the rest."""
    rows = {name: composed(*row) for name, row in rows_of("optim/lookahead", "steps").items()}
    assert not rows["sgd"]["with"]
    assert rows["lookahead"]["with"][0].args == {"k": 5, "alpha": 0.8}
    for config in rows.values():
        assert config["noise"][0].args["rate"] == 0
        assert config.one("optimizer").args == {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, "nesterov": False}
        assert factors(config, [59, 60, 120, 160, 199]) == pytest.approx([1, 0.2, 0.04, 0.008, 0.008])


def test_sam(composed):
    """google-research/sam, sam_jax/train.py and training_utils/flax_training.py; SamsungLabs/ASAM, README.md."""
    rows = {name: composed(*row) for name, row in rows_of("sharpness", "radius").items()}
    assert {name: (config["with"][0].args["adaptive"], config["with"][0].args["rho"]) for name, config in rows.items()} == {
        "sgd": (False, 0.0), "sam": (False, 0.1), "asam": (True, 0.5),
    }  # fmt: skip
    assert rows["sam"].one("optimizer").args == {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, "nesterov": True}
    assert {"duration": "200ep", "batch_size": 128, "clip": 5.0}.items() <= rows["sam"].one("trainer").args.items()
