"""``stm weights``: the same weights in another file, and what a file contains."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from typer.testing import CliRunner, Result

import cli
from stmtrain.errors import CheckpointError
from stmtrain.model import STM
from stmtrain.weights.checkpoint import load_model_and_origin
from stmtrain.weights.convert import convert, inspect
from stmtrain.weights.files import read_state, write_state
from tests.weights.files import same, save

State = dict[str, Tensor]


def stm(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture(scope="module")
def state() -> State:
    """Weights of STM with ResNet-18 and statistics of their own, some of them unusual numbers."""
    torch.manual_seed(0)
    state = dict(STM("resnet18").state_dict())
    for name, tensor in state.items():
        if name.endswith(("running_mean", "running_var")):
            state[name] = torch.rand_like(tensor)
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(2**40 + 1)
    state["KV_M_r4.Key.bias"] = torch.tensor([0.0, -0.0, 1e-45, 3.4e38] * 8)
    return state


def prefixed(state: State) -> State:
    return {f"module.{name}": tensor for name, tensor in state.items()}


def test_there_and_back_every_bit_is_kept(state: State, tmp_path: Path) -> None:
    official = save(prefixed(state), tmp_path / "official.pth")
    plain, safe, back = (tmp_path / name for name in ("plain.pth", "w.safetensors", "back.pt"))
    for source, target in ((official, plain), (official, safe), (safe, back)):
        result = stm("weights", "convert", source, target)
        assert result.exit_code == 0, result.output
        assert f"weights: {target} (STM with resnet18, 222 tensors, " in result.output
    assert same(read_state(plain), state)
    assert same(read_state(safe), state)
    assert plain.read_bytes() == back.read_bytes()
    assert list(torch.load(plain)) == list(state)
    assert not list(tmp_path.glob("*.tmp"))


def test_the_largest_backbone_converts(tmp_path: Path) -> None:
    name = "resnest101"
    source = save({"state_dict": prefixed(STM(name).state_dict())}, tmp_path / "w.pth")
    lines: list[str] = []
    convert(source, tmp_path / "w.safetensors", lines.append, None, backbone=name)
    assert len(lines) == 1
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert file.metadata() == {"backbone": name, "format": "pt", "model": "STM"}
    model, origin = load_model_and_origin(tmp_path / "w.safetensors")
    assert origin["backbone"] == model.backbone.name == name
    assert same(dict(model.state_dict()), read_state(source))


def test_half_precision_stays_half(state: State, tmp_path: Path) -> None:
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}
    target = tmp_path / "w.safetensors"
    convert(save(half, tmp_path / "w.pth"), target, lambda _: None, None)
    assert {str(t.dtype) for t in read_state(target).values()} == {"torch.bfloat16", "torch.int64"}


def test_what_differs_is_listed_and_nothing_is_written(state: State, tmp_path: Path) -> None:
    names = [name for name in state if name.startswith("Decoder.RF2.")]
    wrong = {name: tensor for name, tensor in state.items() if name not in names}
    wrong |= {"extra": torch.zeros(1), "KV_Q_r4.Key.bias": torch.zeros(31)}
    source, target = save(wrong, tmp_path / "w.pth"), tmp_path / "out" / "w.safetensors"
    result = stm("weights", "convert", source, target)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert [f"missing: {name}" for name in names[:5]] == lines[:5]
    assert lines[5] == f"missing: ... and {len(names) - 5} more"
    assert lines[6:8] == [
        "unknown: extra",
        "of another shape: KV_Q_r4.Key.bias: (31,) instead of (32,)",
    ]
    assert lines[8].startswith(
        f"stm: {source}: expected the 222 tensors of STM with resnet18, found"
    )
    assert len(lines) == 9
    every = stm("weights", "convert", source, target, "--verbose").output.splitlines()
    assert every[: len(names)] == [f"missing: {name}" for name in names]
    assert not target.parent.exists()
    seen = stm("weights", "info", source)
    assert seen.exit_code == 0
    assert lines[:8] == seen.output.splitlines()[-8:]


def test_backbone_that_was_asked_for_is_the_one_that_is_checked(
    state: State, tmp_path: Path
) -> None:
    source = save(state, tmp_path / "w.pth")
    result = stm("weights", "convert", source, tmp_path / "o.pth", "--backbone", "resnet50")
    assert result.exit_code == 1
    assert result.output.rstrip().endswith("choose --backbone resnet18")
    result = stm("weights", "convert", source, tmp_path / "o.pth", "--backbone", "vgg")
    assert result.exit_code == 2
    assert "expected --backbone of resnet50, resnet18, resnest101, found 'vgg'" in result.output
    other = save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    result = stm("weights", "convert", other, tmp_path / "o.pth")
    assert result.exit_code == 1
    assert "found 1 tensors of another model" in result.output


def test_a_checkpoint_gives_its_model_or_its_averaged_weights(state: State, tmp_path: Path) -> None:
    averaged = {k: v + 1 if v.is_floating_point() else v for k, v in state.items()}
    value = {
        "model": state,
        "ema": averaged,
        "step": 7,
        "recipe": {"name": "main"},
        "optimizer": {},
    }
    source, target = save(value, tmp_path / "checkpoint.pt"), tmp_path / "w.pth"
    result = stm("weights", "convert", source, target)
    assert (
        "averaged weights of this checkpoint are not included; --ema selects them" in result.output
    )
    assert same(read_state(target), state)
    result = stm("weights", "convert", source, target, "--ema", "--overwrite")
    assert "not included" not in result.output
    assert same(read_state(target), averaged)
    output = stm("weights", "info", source).output
    assert "state dict: under 'model'" in output
    assert "training: 7 steps of recipe main" in output
    assert "averaged weights: present" in output
    result = stm("weights", "convert", target, tmp_path / "o.pth", "--ema")
    assert result.exit_code == 1
    assert "found none; leave out --ema" in result.output


def test_absent_counters_are_written_as_zero(state: State, tmp_path: Path) -> None:
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    source, target = save(prefixed(old), tmp_path / "old.pth"), tmp_path / "w.pth"
    result = stm("weights", "convert", source, target)
    count = len(state) - len(old)
    assert f"note: {count} counters of BatchNorm were absent and are zero" in result.output
    new = read_state(target)
    assert same({k: new[k] for k in old}, old)
    assert all(int(new[k]) == 0 for k in state.keys() - old.keys())
    lines = inspect(source).lines()
    assert "BatchNorm's counters: absent, set to zero when loaded" in lines
    assert lines[-1] == "names and shapes: all as they should be"


def test_nan_is_kept_and_said(state: State, tmp_path: Path) -> None:
    source = save(
        {**state, "Decoder.pred2.bias": torch.tensor([1.0, torch.nan])}, tmp_path / "w.pth"
    )
    result = stm("weights", "convert", source, tmp_path / "o.pth")
    assert result.exit_code == 0
    assert "1 tensors contain NaN or infinity (first Decoder.pred2.bias)" in result.output
    assert read_state(tmp_path / "o.pth")["Decoder.pred2.bias"].isnan().tolist() == [False, True]
    assert "NaN or infinity: in 1 tensors" in stm("weights", "info", source).output


def test_existing_files_and_other_suffixes_are_refused(state: State, tmp_path: Path) -> None:
    source, target = save(state, tmp_path / "w.pth"), tmp_path / "o.pth"
    target.write_bytes(b"mine")
    result = stm("weights", "convert", source, target)
    assert result.exit_code == 2
    assert "exists; give another name or --overwrite" in result.output
    assert target.read_bytes() == b"mine"
    result = stm("weights", "convert", source, tmp_path / "o.tar")
    assert result.exit_code == 2
    assert "expected a name that ends in .pth, .pt, .safetensors, found '.tar'" in result.output


def test_info_names_other_models_and_refuses_what_is_damaged(tmp_path: Path) -> None:
    resnet = {"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}
    result = stm("weights", "info", save(resnet, tmp_path / "r.pth"))
    assert result.exit_code == 0
    assert "model: a ResNet for classification (18 or 34 layers)" in result.output
    assert "names and shapes" not in result.output
    (tmp_path / "w.safetensors").write_bytes(b"no header")
    result = stm("weights", "info", tmp_path / "w.safetensors")
    assert result.exit_code == 1
    assert result.output.startswith("stm: ")
    assert len(result.output.splitlines()) == 1


def test_damaged_source_is_refused_before_anything_is_written(state: State, tmp_path: Path) -> None:
    source = tmp_path / "w.safetensors"
    write_state(source, state, {})
    source.write_bytes(source.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="found a damaged file"):
        convert(source, tmp_path / "out.pth", lambda _: None, None)
    assert [p.name for p in tmp_path.iterdir()] == [source.name]
