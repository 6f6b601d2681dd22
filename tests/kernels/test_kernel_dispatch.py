"""The setting, the counters and the reasons of dispatch."""

import os
import subprocess
import sys
import warnings

import pytest
import torch

from runner.execution.assemble import use_kernels
from runner.kernels import dispatch, masked_linear, softmax, topk_mask


def test_auto_is_the_reference_on_a_cpu_and_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        softmax(torch.randn(2, 3))
    assert dispatch.used() == {("softmax", "reference", "torch"): 1}


def test_reset_forgets():
    softmax(torch.randn(2, 3))
    dispatch.reset()
    assert dispatch.used() == {}


def test_setting_and_context_manager():
    dispatch.backend("reference")
    with dispatch.backend("triton"):
        assert dispatch.chosen() == "triton"
    assert dispatch.chosen() == "reference"
    with pytest.raises(ValueError, match="auto, reference, triton"):
        dispatch.backend("cuda")
    assert dispatch.chosen() == "reference"


def test_triton_where_impossible_says_why():
    with dispatch.backend("triton"), pytest.raises(RuntimeError, match=r"softmax: no Triton kernel for torch\.float64"):
        softmax(torch.randn(2, 3, dtype=torch.float64))


def test_why_not(monkeypatch, device):
    x = torch.randn(2, 3, device=device)
    assert dispatch.why_not("softmax", x) is None
    assert "float64" in dispatch.why_not("softmax", x.double())
    assert "meta" in dispatch.why_not("softmax", x.to("meta"))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "CPU" in dispatch.why_not("softmax", x.cpu())
    monkeypatch.setattr(dispatch, "_triton_missing", True)
    assert dispatch.why_not("softmax", x) == "triton is not installed"
    with pytest.raises(KeyError, match="softmax"):
        dispatch.why_not("softmacks", x)


def test_fallback_on_a_gpu_warns_once(monkeypatch):
    """`auto` on a CUDA tensor; a stand-in for the tensor, so that the rule is tested on every machine."""

    class Cuda:
        is_cuda, dtype, device = True, torch.float64, torch.device("cuda")

    with pytest.warns(UserWarning, match=r"softmax: the reference runs .* torch\.float64"):
        assert not dispatch.fused("softmax", Cuda)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not dispatch.fused("softmax", Cuda)
    assert dispatch.used() == {("softmax", "reference", "torch"): 2}


def test_kernels_launch_on_the_device_of_their_argument(monkeypatch, device):
    seen, guard = [], torch.cuda.device_of
    monkeypatch.setattr(torch.cuda, "device_of", lambda x: seen.append(x.shape) or guard(x))
    with dispatch.backend("triton"):
        softmax(torch.randn(2, 3, device=device))
        topk_mask([torch.randn(4, device=device), torch.randn(5, device=device)], 2)
    assert seen == [(2, 3), (4,)]


def test_inside_vmap_the_reference_runs(device):
    x = torch.randn(4, 2, 3, device=device)
    with dispatch.backend("triton"), pytest.raises(RuntimeError, match=r"torch\.func"):
        torch.func.vmap(softmax)(x)
    with dispatch.backend("reference"):
        torch.testing.assert_close(torch.func.vmap(softmax)(x), x.softmax(-1))


def test_a_transform_of_any_argument_counts(device):
    """Not of the first alone: its gradients would fail inside the operator."""
    x, w, mask = torch.randn(4, 3, device=device), torch.randn(2, 3, device=device), torch.ones(2, 3, dtype=torch.bool, device=device)
    f = torch.func.grad(lambda w: masked_linear(x, w, mask).sum())
    with dispatch.backend("triton"), pytest.raises(RuntimeError, match=r"masked_linear: no Triton kernel for a tensor inside a torch\.func transform"):
        f(w)
    torch.testing.assert_close(f(w), x.sum(0).expand(2, 3))


def test_environment_sets_the_first_choice_and_triton_is_not_imported():
    code = "import sys; from runner.kernels import dispatch; print(dispatch.chosen(), 'triton' in sys.modules); dispatch.backend('fast')"
    environment = {**os.environ, "RUNNER_KERNELS": "reference", "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert ran.stdout.split() == ["reference", "False"]
    assert "ValueError: backend 'fast': choose one of auto, reference, triton" in ran.stderr


def test_auto_of_a_run_leaves_the_choice_to_the_environment(monkeypatch):
    monkeypatch.setattr(dispatch, "first_choice", "reference")
    for asked, chosen in (("triton", "triton"), ("auto", "reference")):
        use_kernels(asked)
        assert dispatch.chosen() == chosen
