"""vision_encoder: the class token that `transformers` computes, times a new head; sizes, channels, and what is wrong."""

import pytest
import tiny_transformer
import tiny_vit
import torch
from torch.nn import functional as F

from runner import UserError
from runner.components._learned import drawn
from runner.components.model.vision_encoder import build
from runner.core.data import Info

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
X = torch.randn(3, 3, 20, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("RUNNER_OFFLINE", "1")


@pytest.fixture(scope="module", params=["ViT", "Dinov2"])
def folder(request, tmp_path_factory):
    return tiny_vit.write(tmp_path_factory.mktemp(request.param), request.param)


def made(folder, shape=(3, 20, 24), outputs=5, seed=0, **values):
    torch.manual_seed(seed)
    return build(str(folder), **values)(Info("classification", shape, outputs), None)


def expected(model, folder, x, **options):
    """The library's own network on images of its size, and the head by hand."""
    token = transformers.AutoModel.from_pretrained(folder).eval()(pixel_values=x, **options).last_hidden_state[:, 0]
    return token @ model.head.weight.T + model.head.bias


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_it_is_the_librarys_class_token_and_a_linear_head(folder, attention):
    model = made(folder, size=32, attention=attention)
    assert model.training
    resized = F.interpolate(X, (32, 32), mode="bicubic", antialias=True)
    assert torch.allclose(model.eval()(X), expected(model, folder, resized), atol=1e-5)
    exact = torch.randn(2, 3, 32, 32)
    assert torch.allclose(model(exact), expected(model, folder, exact), atol=1e-5)
    model(X.requires_grad_()).sum().backward()
    assert X.grad.abs().sum() > 0


@pytest.mark.parametrize("size", [16, 48])
def test_positions_are_fitted_to_other_sizes(folder, size):
    model = made(folder, size=size).eval()
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    options = {"interpolate_pos_encoding": True} if "ViT" in type(model.network).__name__ else {}
    assert torch.allclose(model(x), expected(model, folder, x, **options), atol=1e-5)


def test_one_channel_is_shown_as_three(folder):
    model = made(folder, (1, 20, 24), size=32).eval()
    assert torch.allclose(model(X[:, :1]), model(X[:, :1].repeat(1, 3, 1, 1)))


def test_the_head_is_new_and_drawn_from_the_seed(folder):
    first, again, other = (made(folder, size=32, outputs=400, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)
    assert first.head.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not first.head.bias.any()
    assert [m for m in first.modules() if isinstance(m, torch.nn.Linear)][-1] is first.head
    body = dict(transformers.AutoModel.from_pretrained(folder).named_parameters())
    assert all(torch.equal(p, body[name]) and p.dtype == torch.float32 for name, p in first.network.named_parameters())
    assert drawn(first) == ["head.weight", "head.bias"]


def test_half_precision_is_read_as_float32(folder, tmp_path):
    transformers.AutoModel.from_pretrained(folder).half().save_pretrained(tmp_path)
    assert {p.dtype for p in made(tmp_path, size=32).parameters()} == {torch.float32}


def test_what_is_wrong_is_said(folder, tmp_path):
    for shape in ((16,), (2, 20, 24)):
        with pytest.raises(UserError, match="takes images of 1 or 3 channels"):
            made(folder, shape)
    with pytest.raises(UserError, match=r"model\.size=30 is not a multiple of 8, the side of the patches"):
        made(folder, size=30)
    with pytest.raises(UserError, match=r"^image transformer '.*none' is not on this machine: looked in .*model\.path"):
        made(tmp_path / "none")


@pytest.mark.parametrize(
    ("family", "changed"),
    [
        ("SiglipVision", {"intermediate_size": 32}),  # a token a patch
        ("ViTMAE", {}),  # hides most patches
        ("ResNet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}),  # maps of four dimensions
    ],
)
def test_networks_without_a_class_token_are_refused(tmp_path, family, changed):
    with pytest.raises(UserError, match="has no class token") as error:
        made(tiny_vit.write(tmp_path, family, **changed), size=32, attention="eager")
    assert "\n" not in str(error.value)


def test_a_network_for_texts_is_refused(tmp_path):
    with pytest.raises(UserError, match="no transformer of image patches"):
        made(tiny_transformer.write(tmp_path))


def test_a_network_of_other_channels_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"does not take images of 32x32, see model\.size: ") as error:
        made(tiny_vit.write(tmp_path, num_channels=4), size=32)
    assert "\n" not in str(error.value)
