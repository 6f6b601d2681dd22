"""The command as users meet it: a process, its output, its exit status, and what it leaves behind."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.cli import list as list_command
from runner.cli import main, new, show
from runner.cli.list import presets
from runner.config import registry


@pytest.fixture(autouse=True)
def _ctrl_c():
    """The command leaves it to the system in the end; tests go on."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["loss=gcee"], "no option 'gcee' in group 'loss'; did you mean 'gce'?"),
        (["loss=gce", "loss.betta=1"], "unknown key 'loss.betta'"),
        (["+typo=1"], "unknown key 'typo'"),
        (["noise=symmetric", "noise.rate=1.4"], "noise.rate=1.4 is out of range: it must be in [0, 1]"),
        (["optimizer.lr=abc"], "optimizer.lr='abc' is not valid; it takes float"),
        (["+recipe=nope"], "no recipe 'nope'"),
        (["data=cifar10", "data.root=nowhere"], "looked"),
        (["sparsity=rigl", "+sparsity/also@sparsity.set=set"], "both own 'mask'"),
        (["data=diabetes", "eval=[accuracy]"], "is for classification"),
        (["seed=1,2"], "add -m"),
        (["data=hub", "data.path=/tmp/a,b.csv"], """add -m, or if it is one value, quote it: 'data.path="/tmp/a,b.csv"'"""),
        (["trainer.duration=5"], "it takes a duration such as 80ep or 500it"),
        (["--config-dir", "nowhere"], "there is no such folder"),
        (["-m", "seed=1,2", "loss=ce,gcee"], "no option 'gcee'"),
        (["show", "loss=gcee"], "did you mean 'gce'?"),
        (["list", "losss"], "did you mean 'loss'?"),
        (["why", "loss.qq", "loss=gce"], "no key 'loss.qq'"),
        (["why", "loss..q", "loss=gce"], "no key 'loss..q'"),
        (["tabel", "noisy_labels"], "no command 'tabel'; did you mean 'table'?"),
        (["-m", "seed=1,2", "--retries", "-1"], "--retries: '-1' is no number of at least 0"),
        (["--timeout", "1s", "seed=1"], "--timeout is for sweeps; add -m"),
        (["--fail-fast", "seed=1"], "--fail-fast is for sweeps; add -m"),
        (["threads=100000"], "threads=100000 is out of range"),
        (["launcher=slurm"], "launcher=slurm is for sweeps; add -m"),
        (["--cfg", "jobs", "seed=1"], "argument --cfg/-c: invalid choice: 'jobs'"),
        (["-m", "seed=1,2", "data=hub", "data.path=\udcff.csv"], "cannot read"),
        (["verify", "noise/elr", "--seeds", "0-99999999999"], "--seeds 0-99999999999 is not valid"),
        ([f"trainer.duration={'9' * 400}ep"], "it takes a duration"),
        (["plan", "--only", "failed", "seed=1"], "unrecognized arguments: --only"),
        (["plan", "--plan", "some.jsonl", "seed=1"], "--plan some.jsonl is frozen: it takes no overrides such as 'seed=1'"),
        (["store=/dev/null"], "/dev/null/"),
        (["-m", "seed=1,2", "store=/proc/nowhere"], "/proc/nowhere: No such file or directory"),
        (["plan", "seed=1,2", f"store={'x' * 300}"], "File name too long"),
        (["new", "loss/mine", "--dir", "/dev/null"], "/dev/null/loss: Not a directory"),
        (["report", "noisy_labels", "--out", "/"], "--out / is a folder"),
        (["-m", "noise=symmetric", "noise.rate=interval(0,1)"], "an interval is for runner search"),
        (["doctor", "now"], "unrecognized arguments: now"),
        (["new", "loss/gce", "--dir", "x"], "is there already"),
        (["new", "loss/Bad-Name", "--dir", "x"], "is no name for a component"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_input_is_one_line_exit_2_and_nothing_written(runner, tmp_path, arguments, said):
    done = runner(*arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_is_not_there_is_refused(runner, tmp_path):
    done = runner("device=cuda:63")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert "CUDA devices here" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_said(runner, tmp_path):
    arguments = ["+recipe=noisy_labels", "trainer.duration=4000ep", "trainer.checkpoint_every=0.05", "trainer.eval_every=4000ep", "trainer.log_every=4000ep"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("src")), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "runner", *arguments], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    while process.poll() is None and len(list(tmp_path.glob("runs/*/checkpoints/*.pt"))) < 2:
        pass
    process.kill()
    process.communicate()
    files = list(tmp_path.glob("runs/*/checkpoints/*.pt"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:1000])
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    done = runner(*arguments)
    assert done.returncode == 2
    assert "damaged" in done.stderr
    assert "fresh=true" in done.stderr
    assert "Traceback" not in done.stderr
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_only_a_full_disk_is_told_to_go_on(monkeypatch, capsys, number):
    def refused(argv):
        raise OSError(number, os.strerror(number), "there/a.png")

    monkeypatch.setattr(main, "dispatch", refused)
    with pytest.raises(SystemExit) as ended:
        main.main(["new", "loss/mine"])
    said = capsys.readouterr().err
    full = number == errno.ENOSPC
    assert (ended.value.code, "goes on from there" in said) == ((1, True) if full else (2, False))
    assert "there/a.png" in said


def test_the_run_of_the_readme(runner, tmp_path):
    done = runner("+recipe=noisy_labels", "scale=smoke")
    assert done.returncode == 0, done.stderr
    assert "test/acc" in done.stdout
    assert "train/memorised" in done.stdout
    (record,) = (tmp_path / "runs").iterdir()
    assert {p.name for p in record.iterdir()} == {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "timing.jsonl",
        "log.txt",
        "checkpoints",
        "claim-1.json",
        "done.json",
    }
    rows = [json.loads(line) for line in (record / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in rows] == [1.0, 2.0]
    again = runner("+recipe=noisy_labels", "scale=smoke")
    assert again.returncode == 0
    assert "is done already" in again.stderr
    assert again.stdout == done.stdout


def test_a_sweep_runs_what_is_missing(runner, tmp_path):
    done = runner("-m", "+recipe=noisy_labels", "scale=smoke", "seed=range(2)", "with=[elr],[]")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("runs/*/done.json"))) == 4
    assert "4 jobs: 4 done" in done.stdout
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/done.json")}
    again = runner("-m", "+recipe=noisy_labels", "scale=smoke", "seed=range(3)", "with=[elr]")
    assert "[1/1]" in again.stderr
    assert "3 jobs: 3 done" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(list(tmp_path.glob("runs/*/done.json"))) == 5


def test_a_failing_job_costs_itself_alone(runner):
    done = runner("-m", "+recipe=noisy_labels", "scale=smoke", "optimizer.lr=0.05,1e30")
    assert done.returncode == 1
    assert "loss is nan" in done.stderr or "loss is inf" in done.stderr
    assert "2 jobs: 1 done, 1 failed" in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "loss"], ["show", "loss=gce"], ["--cfg", "job"], ["-sc", "query=bash"]], ids=" ".join)
def test_looking_imports_no_torch(runner, arguments):
    code = (
        "import sys; sys.argv = ['runner', *sys.argv[1:]]\n"
        "try:\n    from runner.cli.main import main; main()\n"
        "finally:\n    assert 'torch' not in sys.modules, 'torch was imported'"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("src")), "COMP_LINE": "runner loss=g", "COMP_POINT": "13"}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", [*main.COMMANDS, "runs gc", "+recipe=noisy_labels", "-m seed=1,2"])
def test_every_command_explains_itself(capsys, command, flag):
    asked = command.split()
    if asked[0] in main.COMMANDS:
        with pytest.raises(SystemExit, match="0"):  # argparse's way
            main.dispatch([*asked, flag])
    else:
        assert main.dispatch([*asked, flag]) == 0
    said = capsys.readouterr().out
    assert ("usage: runner " + command if asked[0] in main.COMMANDS else "runner doctor   ") in said
    for its in {"runs": ["--state", "--sort", "--json", "--stale"], "runs gc": ["--yes", "--dry-run", "--all"], "plan": ["--probe"]}.get(command, []):
        assert its in said


def test_a_wrong_choice_of_kernels_in_the_environment_is_one_line(capsys, monkeypatch):
    monkeypatch.setenv("RUNNER_KERNELS", "fast")
    with pytest.raises(SystemExit) as end:
        main.main(["loss=gce"])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("runner: RUNNER_KERNELS='fast' is not valid")


def test_help_is_quick():
    """Nor does the help of a command import what takes a second."""
    code = (
        "import sys; from runner.cli.main import dispatch\nfor c in sys.argv[1:]:\n  try: dispatch([c, '-h'])\n  except SystemExit: pass\nprint(*sys.modules)"
    )
    commands = [c for c in main.COMMANDS if c not in ("table", "report")]
    environment = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("src")), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code, *commands], env=environment, capture_output=True, text=True, check=True)
    assert "usage: runner why" in done.stdout
    assert not {"torch", "hydra", "numpy", "scipy", "sklearn", "matplotlib"} & set(done.stdout.splitlines()[-1].split())


def test_completion(runner):
    assert "loss=gce" in runner("-sc", "query=bash", env={"COMP_LINE": "runner loss=gc", "COMP_POINT": "14"}).stdout
    assert "+recipe=noisy_labels" in runner("-sc", "query=bash", env={"COMP_LINE": "runner +recipe=noisy_l", "COMP_POINT": "22"}).stdout
    assert "+recipe=noise/gce" in runner("-sc", "query=bash", env={"COMP_LINE": "runner +recipe=noise/g", "COMP_POINT": "22"}).stdout
    assert "noise.rate=" in runner("-sc", "query=bash", env={"COMP_LINE": "runner noise=symmetric noise.r", "COMP_POINT": "30"}).stdout


def test_hydra_flags(runner):
    job = runner("--cfg", "job", "+recipe=noisy_labels", "scale=smoke")
    assert "rate: 0.4" in job.stdout
    assert "duration: 2ep" in job.stdout
    assert "recipe/noisy_labels" in runner("--info", "defaults", "+recipe=noisy_labels").stdout


def test_why(runner):
    done = runner("why", "with.elr.lam", "+recipe=noisy_labels", "with.elr.lam=4")
    assert "with.elr.lam = 4.0" in done.stdout
    assert "3.0 is the default" in done.stdout
    assert "command line" in done.stdout
    assert "with/elr.build(lam)" in done.stdout
    chosen = runner("why", "noise", "+recipe=[noisy_labels]")
    assert "conf/config.yaml" in chosen.stdout
    assert "recipes/noisy_labels.yaml" in chosen.stdout


GROUPS = ("loss", "with", "learner", "noise", "optimizer", "schedule", "softmax", "sparsity", "model", "data", "eval", "probe")


def test_new_components_pass_their_tests_and_run(runner, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for group in GROUPS:
        assert new.main([f"{group}/fresh_{group}", "--dir", "mylab"]) == 0
        assert f"+recipe=fresh_{group}" in capsys.readouterr().out
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 3 * len(GROUPS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("src"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "mylab"]
    test = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert test.returncode == 0, test.stdout
    assert f"{len(GROUPS)} xfailed" in test.stdout
    sweep = runner("-m", "--config-dir", "mylab", "scale=smoke", "+recipe=" + ",".join(f"fresh_{g}" for g in GROUPS))
    assert sweep.returncode == 0, sweep.stderr
    assert f"{len(GROUPS)} jobs: {len(GROUPS)} done" in sweep.stdout


def test_components_of_ones_own_folder_can_be_looked_at(runner):
    assert runner("new", "loss/mine", "--dir", "lab").returncode == 0
    for arguments, said in ((["list", "loss"], "mine"), (["show", "loss=mine"], "loss=mine"), (["--cfg", "job", "loss=mine"], "name: mine")):
        done = runner(*arguments, "--config-dir=lab")
        assert said in done.stdout, done.stderr
    done = runner("--cfg", "job", "--config-dir")
    assert (done.returncode, done.stderr) == (2, "runner: argument --config-dir/-cd: expected one argument\n")


def test_presets_of_ones_own_folder_can_be_looked_at(runner, tmp_path):
    (tmp_path / "lab/noise").mkdir(parents=True)
    (tmp_path / "lab/noise/much.yaml").write_text("# a lot\ndefaults: [symmetric, _self_]\nrate: 0.7\n")
    asked = {"list noise": "preset: a lot", "show noise=much": "rate: 0.7", "why noise.rate noise=much": "so: 0.7 in noise/much  (lab/noise/much.yaml:3)"}
    for command, said in asked.items():
        done = runner(*command.split(), "--config-dir", "lab")
        assert said in done.stdout.replace(f"{tmp_path}/", ""), done.stderr


def test_list_shows_what_scales_are(capsys):
    assert list_command.main(["scale"]) == 0
    assert "minutes on a laptop" in capsys.readouterr().out


def test_commands_of_a_new_component_are_quoted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert new.main(["loss/mine", "--dir", "my lab"]) == 0
    said = capsys.readouterr().out
    assert "runner --config-dir 'my lab' +recipe=mine" in said
    assert "pytest 'my lab/tests/test_mine.py'" in said


def test_a_closed_pipe_ends_quietly(monkeypatch):
    def printed(argv):
        try:
            raise BrokenPipeError
        except BrokenPipeError:
            raise SystemExit(1)  # noqa: B904 - as rich does

    monkeypatch.setattr(main, "dispatch", printed)
    with pytest.raises(SystemExit, match=r"^141$"):
        main.main(["list"])


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&- <&-"])
def test_outputs_that_are_closed_cost_a_run_nothing(runner, tmp_path, closed):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("src")), "OMP_NUM_THREADS": "1"}
    for many in ("trainer.duration=2it", "-m trainer.duration=3it,4it"):
        command = f"{sys.executable} -m runner scale=smoke {many} {closed}"
        assert subprocess.run(command, shell=True, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, timeout=100, check=False).returncode == 0
    assert len(list(tmp_path.glob("runs/*/done.json"))) == 3


def test_what_an_output_cannot_spell_is_no_reason_to_end(runner):
    done = runner("table", "noisy_labels", "--no-run", "--format", "md", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert "\\xb1" in done.stdout


def test_a_current_folder_that_is_gone_is_said(tmp_path):
    code = "import os, runner.cli.main as m\nos.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); m.main(['seed=1'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (2, "runner: the current folder is not there any more\n")


def test_all_that_list_names_can_be_shown(capsys):
    for group in registry.GROUPS:
        for option in [*registry.options(group), *presets(group)]:
            assert show.main([f"{group}={option}"]) == 0
            shown = capsys.readouterr().out
            assert ("defaults: [" if option in presets(group) else f"{group}={option}") in shown


def test_the_readme_shows_what_why_prints(runner):
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    command, _, shown = readme.partition("$ runner why ")[2].partition("```")[0].partition("\n")
    assert runner("why", *command.split()).stdout.split() == shown.split()


def test_ctrl_c_while_python_ends_is_quiet():
    code = (
        "import atexit, time; from runner.cli.main import main\n"
        "def late(): print('late', flush=True); time.sleep(20)\n"
        "atexit.register(late); main(['--version'])"
    )
    command = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert [command.stdout.readline() for _ in range(2)][1] == "late\n"
    command.send_signal(signal.SIGINT)
    assert command.communicate(timeout=10)[1] == ""
    assert command.returncode == -signal.SIGINT
