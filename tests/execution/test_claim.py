"""One process at a time, whoever dies, whatever the clock says."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from runner.execution import claim
from runner.execution.claim import Busy, Claim, alive, born, latest

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def other():
    """A process of this machine that does nothing."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def held(pid: int, **changed) -> dict:
    return {"host": socket.gethostname(), "boot": claim._boot(), "pid": pid, "born": born(pid), "beat": 0, **changed}


def write(folder, content, number=1):
    folder.mkdir(exist_ok=True)
    (folder / "part").write_text(json.dumps(content))
    (folder / "part").replace(folder / f"claim-{number}.json")


def race(folders, barrier, wins):
    for k, folder in enumerate(folders):
        mine = Claim(folder)
        barrier.wait()
        try:
            mine.take()
            with wins.get_lock():
                wins[k] += 1
            barrier.wait()  # the winner lives until the other has lost
            mine.free()
        except Busy:
            barrier.wait()


@pytest.mark.parametrize("before", ["nothing", "free", "dead"])
def test_of_two_processes_exactly_one_wins(tmp_path, before):
    folders = [tmp_path / f"{k:02}" for k in range(60)]
    if before != "nothing":
        gone = subprocess.Popen([sys.executable, "-c", ""])
        content = held(gone.pid, born="1", **({"free": True} if before == "free" else {}))
        gone.wait()
        for folder in folders:
            write(folder, content)
    barrier, wins = FORK.Barrier(2, timeout=60), FORK.Array("i", len(folders))
    both = [FORK.Process(target=race, args=(folders, barrier, wins)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert list(wins) == [1] * len(folders)
    assert [latest(folder)[0] for folder in folders] == [1 if before == "nothing" else 2] * len(folders)


def test_a_dead_holder_is_taken_over_from(tmp_path):
    pid = os.fork()
    if pid == 0:
        Claim(tmp_path).take()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, though nobody has asked for its status yet
    assert latest(tmp_path)[1]["pid"] == pid
    mine = Claim(tmp_path)
    mine.take()
    os.waitpid(pid, 0)
    assert mine.number == 2
    mine.free()


def test_a_living_holder_is_named(tmp_path, other):
    write(tmp_path, held(other.pid))
    with pytest.raises(Busy, match=f"process {other.pid} on {socket.gethostname()}"):
        Claim(tmp_path).take()


@pytest.mark.parametrize("replaced", [True, False])
def test_who_is_late_for_a_record_that_is_set_aside_does_not_get_the_new_one(tmp_path, other, monkeypatch, replaced):
    folder, unspoilt = tmp_path / "run", Claim._write

    def late(self, content):
        folder.rename(tmp_path / "aside")
        if replaced:
            write(folder, held(other.pid), number=4)
        return unspoilt(self, content)

    write(folder, held(1, free=True), number=2)
    monkeypatch.setattr(Claim, "_write", late)
    with pytest.raises(Busy, match="this moment"):
        Claim(folder).take()


def test_a_holder_of_before_the_machine_was_started_again_is_dead(tmp_path, other):
    assert alive(held(other.pid)) is True
    assert alive(held(other.pid, boot="01234567")) is False
    assert alive(held(other.pid, born="1")) is False  # the number has gone to another process
    assert alive(held(other.pid, free=True)) is False
    write(tmp_path, held(other.pid, boot="01234567"))
    mine = Claim(tmp_path)
    mine.take()
    assert mine.number == 2
    mine.free()


def test_another_machine_that_renews_its_claim_is_respected(tmp_path):
    write(tmp_path, held(1, host="elsewhere"))
    stop = threading.Event()

    def renew():
        for beat in range(1, 10**6):
            write(tmp_path, held(1, host="elsewhere", beat=beat))
            if stop.wait(0.05):
                return

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(Busy, match="on elsewhere"):
            Claim(tmp_path).take(patience=5)
    finally:
        stop.set()
        thread.join()
    assert latest(tmp_path)[0] == 1


def test_another_machine_that_is_silent_is_taken_over_from(tmp_path):
    write(tmp_path, held(1, host="elsewhere"))
    assert alive(latest(tmp_path)[1]) is None
    mine, start = Claim(tmp_path), time.monotonic()
    mine.take(patience=0.3)
    assert time.monotonic() - start >= 0.3
    assert mine.number == 2
    mine.free()


def test_what_is_free_may_be_taken(tmp_path):
    for number in (1, 2, 3):
        mine = Claim(tmp_path)
        mine.take()
        assert mine.number == number
        mine.free()
        assert latest(tmp_path)[1]["free"]


def test_who_loses_the_claim_is_told_and_writes_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "BEAT", 0.02)
    lost = threading.Event()
    mine = Claim(tmp_path, lost.set)
    mine.take()
    write(tmp_path, held(1, host="elsewhere"), number=2)
    assert lost.wait(30)
    mine._thread.join(30)
    before = mine.file.read_bytes()
    assert not mine._thread.is_alive()
    assert mine.file.read_bytes() == before


def test_a_claim_shows_progress_and_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "BEAT", 0.02)
    mine = Claim(tmp_path)
    mine.take()
    mine.progress = {"step": 3, "total": 9}
    until = time.monotonic() + 30
    while (latest(tmp_path)[1] or {}).get("beat", 0) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    content = latest(tmp_path)[1]
    mine.free()
    assert (content["step"], content["total"]) == (3, 9)
    assert [f.name for f in tmp_path.iterdir()] == ["claim-1.json"]


def test_a_damaged_claim_counts_as_free(tmp_path):
    (tmp_path / "claim-7.json").write_text('{"host": "els')
    assert latest(tmp_path) == (7, None)
    mine = Claim(tmp_path)
    mine.take()
    assert mine.number == 8
    mine.free()
