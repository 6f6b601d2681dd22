"""What is here is said, and why the rest is not."""

import pytest
import torch

from runner.cli import doctor
from runner.core.errors import UserError
from runner.kernels import dispatch


def test_data_and_kernels(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert doctor.main([]) == 0
    said = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if len(line.split()) > 1}
    assert "1438 training samples" in said["digits"]
    assert "takes data.path" in said["hub"]


@pytest.mark.parametrize(("choice", "where", "more"), [("auto", "reference", ""), ("triton", "none", ", and RUNNER_KERNELS=triton takes no reference")])
def test_every_operation_stands_beside_its_reason(choice, where, more, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(dispatch, "first_choice", choice)
    monkeypatch.setattr(dispatch, "why_not", lambda name, x: None if name == "softmax" else f"a {x.device.type} tensor")
    rows = doctor.kernels(torch)
    others = ", ".join(op for op in dispatch.ops() if op != "softmax")
    assert (where, where != "none", f"{others}; no Triton kernel for a cpu tensor{more}") in rows
    assert [(name, here) for name, here, names in rows if names.startswith("softmax")] == [("triton" if choice == "triton" else "reference", True)]


@pytest.mark.parametrize(
    ("choice", "why"), [("auto", "on a CPU only kernels.backend=triton interprets the kernels"), ("reference", "RUNNER_KERNELS=reference")]
)
def test_what_auto_does_not_run_is_not_said_to_run(choice, why, monkeypatch):
    """Kernels that could be interpreted, but are not; and the environment's choice."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(dispatch, "first_choice", choice)
    monkeypatch.setattr(dispatch, "why_not", lambda name, x: None)
    assert doctor.kernels(torch) == [("reference", True, f"{', '.join(dispatch.ops())}; {why}")]


def test_what_is_missing_is_said_with_a_remedy(monkeypatch):
    monkeypatch.setattr(doctor, "OPTIONAL", {"no-such-package": "nothing"})
    assert doctor.packages() == [("no-such-package", False, "for nothing: pip install no-such-package")]


def test_addresses_stay_whole_on_narrow_terminals(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    address = "https://there.example/" + "folder/" * 9
    for part, rows in {"devices": [], "kernels": [], "data": [("faces", False, f"get it from {address}")], "packages": []}.items():
        monkeypatch.setattr(doctor, part, lambda *torch, rows=rows: rows or [("one", True, "")])
    assert doctor.main([]) == 0
    assert address in capsys.readouterr().out


def test_arguments_are_refused():
    with pytest.raises(UserError, match="unrecognized arguments: x"):
        doctor.main(["x"])
