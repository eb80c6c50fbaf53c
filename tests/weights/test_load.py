"""Weights go into the model that they belong to; others are refused with advice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor

from stmtrain.model import STM
from stmtrain.model.resnest import ResNeSt
from stmtrain.weights.load import backbone_of, load_backbone, load_weights
from tests.weights.files import refusal, same, save, write_safetensors


@pytest.fixture(scope="module")
def source() -> STM:
    return STM("resnet18")


@pytest.fixture(scope="module")
def resnet() -> torchvision.models.ResNet:
    """A ResNet-18 with statistics of its own."""
    net = torchvision.models.resnet18(weights=None).eval()
    for name, buffer in net.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    return net


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "step": 1},
        lambda state: {f"module.{k}": v for k, v in state.items()},
        lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
    ],
    ids=["plain", "state_dict", "model", "module.", "state_dict of module."],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_every_wrapping_loads_the_same_weights(
    source: STM, tmp_path: Path, wrap: Callable[[Any], Any], zipped: bool
) -> None:
    path = save(
        wrap(source.state_dict()), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped
    )
    model = STM("resnet18")
    assert not same(model.state_dict(), source.state_dict())
    load_weights(model, path)
    assert same(model.state_dict(), source.state_dict())


def test_half_precision_files_are_widened(source: STM, tmp_path: Path) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in source.state_dict().items()}
    model = STM("resnet18")
    load_weights(model, save(half, tmp_path / "w.pth"))
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("name", "other"),
    [("resnet18", "resnet50"), ("resnet50", "resnet18"), ("resnest101", "resnet18")],
)
def test_backbone_is_recognised_and_advised(tmp_path: Path, name: str, other: str) -> None:
    state = STM(name).state_dict()
    assert backbone_of(state) == name
    message = refusal(load_weights, STM(other), save(state, tmp_path / "w.pth"))
    assert f" tensors of STM with {other}, found STM with {name}: " in message
    assert message.endswith(f"choose --backbone {name}")
    assert "of another shape (first " in message


def test_differences_are_counted_and_the_model_stays_as_it_was(source: STM, tmp_path: Path) -> None:
    state = dict(source.state_dict())
    del state["Decoder.pred2.weight"], state["Decoder.pred2.bias"]
    state["extra.weight"] = torch.zeros(1)
    state["KV_Q_r4.Key.bias"] = torch.zeros(31)
    model = STM("resnet18")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    message = refusal(load_weights, model, save(state, tmp_path / "w.pth"))
    assert "expected the 222 tensors of STM with resnet18" in message
    assert "2 missing (first Decoder.pred2.weight)" in message
    assert "1 unknown (first extra.weight)" in message
    assert "1 of another shape (first KV_Q_r4.Key.bias: (31,) instead of (32,))" in message
    assert same(model.state_dict(), before)


def test_other_models_are_named(source: STM, resnet: torch.nn.Module, tmp_path: Path) -> None:
    path = save(resnet.state_dict(), tmp_path / "resnet.pth")
    message = refusal(load_weights, STM("resnet18"), path)
    assert "found a ResNet for classification (18 or 34 layers)" in message
    assert message.endswith("give it as --backbone-weights")
    split = {"layer1.0.conv1.weight": torch.zeros(1), "layer1.0.conv2.conv.weight": torch.zeros(1)}
    message = refusal(load_weights, source, save(split, tmp_path / "split.pth"))
    assert "found a ResNeSt for classification: " in message


def test_integers_are_no_weights(source: STM, tmp_path: Path) -> None:
    state = {**source.state_dict(), "Decoder.convFM.bias": torch.ones(256, dtype=torch.int8)}
    message = refusal(load_weights, STM("resnet18"), save(state, tmp_path / "w.pth"))
    assert "Decoder.convFM.bias: (256,) torch.int8 instead of (256,)" in message


def test_counters_are_zero_if_all_are_absent_and_missing_if_some_are(
    source: STM, tmp_path: Path
) -> None:
    state = source.state_dict()
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    old = {name: tensor for name, tensor in state.items() if name not in counters}
    model = STM("resnet18")
    load_weights(model, save(old, tmp_path / "old.pth"))
    assert same(model.state_dict(), state)
    some = {**old, counters[0]: state[counters[0]]}
    message = refusal(load_weights, model, save(some, tmp_path / "some.pth"))
    assert f"{len(counters) - 1} missing (first {counters[1]})" in message


def test_safetensors_load_wherever_weights_are_read(
    source: STM, resnet: torchvision.models.ResNet, tmp_path: Path
) -> None:
    model = STM("resnet18")
    prefixed = {f"module.{k}": v for k, v in source.state_dict().items()}
    load_weights(model, write_safetensors(prefixed, tmp_path / "w.safetensors"))
    assert same(model.state_dict(), source.state_dict())
    load_backbone(model, write_safetensors(resnet.state_dict(), tmp_path / "r.safetensors"))
    for encoder in (model.Encoder_M, model.Encoder_Q):
        assert torch.equal(encoder.res4[1].bn2.running_var, resnet.layer3[1].bn2.running_var)


@pytest.mark.parametrize("counters", [True, False], ids=["", "old"])
def test_backbone_file_makes_both_encoders_that_resnet(
    resnet: torchvision.models.ResNet, tmp_path: Path, counters: bool
) -> None:
    state = {k: v for k, v in resnet.state_dict().items() if counters or "num_batches" not in k}
    model = STM("resnet18").eval()
    masks = model.Encoder_M.conv1_m.weight.clone()
    load_backbone(model, save(state, tmp_path / "resnet.pth"))
    frames = torch.rand(2, 3, 64, 64)
    nobody, owner = torch.zeros(2, 64, 64), torch.arange(2)
    with torch.no_grad():
        x = (frames - model.Encoder_Q.mean) / model.Encoder_Q.std
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"):
            x = getattr(resnet, name)(x)
        torch.testing.assert_close(model.Encoder_Q(frames).r4, x)
        torch.testing.assert_close(model.Encoder_M(frames, nobody, nobody, owner).r4, x)
    assert torch.equal(model.Encoder_M.conv1_m.weight, masks)


def test_backbone_of_another_network_is_refused(
    source: STM, resnet: torch.nn.Module, tmp_path: Path
) -> None:
    model = STM("resnet50")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    message = refusal(load_backbone, model, save(resnet.state_dict(), tmp_path / "r.pth"))
    assert "expected the weights of resnet50 for classification" in message
    assert "found a ResNet for classification (18 or 34 layers)" in message
    assert "missing (first layer1.0.conv3.weight)" in message
    assert message.endswith("give a file of resnet50, or --backbone-weights none")
    message = refusal(load_backbone, model, save(source.state_dict(), tmp_path / "stm.pth"))
    assert "found STM with resnet18" in message
    assert "use it with --init and --backbone resnet18" in message
    assert same(model.state_dict(), before)


def test_published_resnest_makes_both_encoders_that_network(tmp_path: Path) -> None:
    network = ResNeSt((3, 4, 23), torch.nn.BatchNorm2d).eval()
    later = {"layer4.0.conv1.weight": torch.zeros(1), "fc.weight": torch.zeros(1)}
    model = STM("resnest101").eval()
    load_backbone(model, save({**network.state_dict(), **later}, tmp_path / "resnest101.pth"))
    frames = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        x = (frames - model.Encoder_Q.mean) / model.Encoder_Q.std
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"):
            x = getattr(network, name)(x)
        torch.testing.assert_close(model.Encoder_Q(frames).r4, x)
        nobody = torch.zeros(1, 32, 32)
        memory = model.Encoder_M(frames, nobody, nobody, torch.zeros(1, dtype=torch.int64))
        torch.testing.assert_close(memory.r4, x)


def test_imagenet_of_resnest_says_where_it_is() -> None:
    message = refusal(load_backbone, STM("resnest101"), "imagenet")
    assert "https://github.com/zhanghang1989/ResNeSt/releases/" in message
    assert "--backbone-weights FILE, or --backbone-weights none" in message


def test_backbone_none_changes_nothing() -> None:
    model = STM("resnet18")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    load_backbone(model, "none")
    assert same(model.state_dict(), before)


FETCH = "torchvision.models._api.load_state_dict_from_url"


def test_imagenet_comes_from_torchvision_and_is_checked(
    resnet: torchvision.models.ResNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def fetch(url: str, **options: Any) -> dict[str, Tensor]:
        asked.update(options, url=url)
        return resnet.state_dict()

    monkeypatch.setattr(FETCH, fetch)
    model = STM("resnet18")
    load_backbone(model, "imagenet")
    assert "/resnet18-" in asked["url"]
    assert asked["check_hash"]
    assert asked["weights_only"]
    for encoder in (model.Encoder_M, model.Encoder_Q):
        assert torch.equal(encoder.res4[1].bn2.running_var, resnet.layer3[1].bn2.running_var)


@pytest.mark.parametrize(
    "error", [URLError("no route\nto host"), RuntimeError("invalid hash value"), TimeoutError()]
)
def test_imagenet_without_a_network_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fetch(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(FETCH, fetch)
    message = refusal(load_backbone, STM("resnet50"), "imagenet")
    assert "https://download.pytorch.org/models/resnet50-" in message
    assert "--backbone-weights FILE, or --backbone-weights none" in message
