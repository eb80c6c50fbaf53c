"""Checkpoints come back as they were saved, and their files keep the names of format version 1."""

import dataclasses
from pathlib import Path

import pytest
import torch

from stmtrain.errors import CheckpointError
from stmtrain.model import STM
from stmtrain.weights.checkpoint import (
    Checkpoint,
    keep_as,
    load_checkpoint,
    load_training_state,
    save_checkpoint,
)

CHECKPOINT = Checkpoint(
    backbone="resnet18",
    step=7,
    model={"a": torch.arange(3.0)},
    optimizer={"state": {}, "param_groups": []},
    recipe={"name": "main", "max_skip": [0, 25]},
    shard_sets=({"config_hash": "c", "manifest": "m", "samples": 3, "weight": 0.5},),
    batchnorm="frozen",
    ema={"a": torch.ones(3)},
    best=0.5,
    validated=6,
)


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint.pt", CHECKPOINT)
    loaded = load_checkpoint(tmp_path / "checkpoint.pt")
    for field in dataclasses.fields(Checkpoint):
        ours, theirs = getattr(loaded, field.name), getattr(CHECKPOINT, field.name)
        if field.name in ("model", "ema"):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        else:
            assert ours == theirs, field.name


def test_files_of_this_version_keep_their_names(tmp_path: Path) -> None:
    """A run that was begun with an older release must be resumable."""
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CHECKPOINT)
    content = torch.load(path, weights_only=True)
    names = "backbone step model optimizer recipe sources batchnorm ema best validated"
    assert set(content) == {"format", "format_version", *names.split()}
    assert (content["format"], content["format_version"]) == ("stm-checkpoint", 1)
    assert content["sources"] == list(CHECKPOINT.shard_sets)


def test_other_versions_and_missing_parts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CHECKPOINT)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "format_version": 2}, path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: expected .* version 1, found 2"):
        load_checkpoint(path)
    torch.save({name: value for name, value in content.items() if name != "sources"}, path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: malformed .*sources"):
        load_checkpoint(path)


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_kept_checkpoint_is_not_replaced_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refused(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refused)
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CHECKPOINT)
    keep_as(path, "kept.pt")
    save_checkpoint(path, dataclasses.replace(CHECKPOINT, step=8))
    assert load_checkpoint(tmp_path / "kept.pt").step == 7
    assert load_checkpoint(path).step == 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "kept.pt"]


def _training_state() -> Checkpoint:
    model = STM("resnet18")
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return dataclasses.replace(
        CHECKPOINT, model=model.state_dict(), ema=None, optimizer=optimizer.state_dict()
    )


def test_every_tensor_is_checked_before_training_continues(tmp_path: Path) -> None:
    good = _training_state()
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, good)
    assert load_training_state(path).step == good.step

    def moments(**values: object) -> Checkpoint:
        states = good.optimizer["state"]
        changed = {**states, 0: {**states[0], **values}}
        return dataclasses.replace(good, optimizer={**good.optimizer, "state": changed})

    shape = good.optimizer["state"][0]["exp_avg"].shape
    fewer = dict(list(good.model.items())[1:])
    flat = {name: tensor.flatten() for name, tensor in good.model.items()}
    faults = {
        "exp_avg of parameter 0 with shape": moments(exp_avg=torch.zeros(2)),
        "exp_avg_sq of parameter 0 that is no dense": moments(
            exp_avg_sq=torch.zeros(1).expand(shape)
        ),
        "int64": moments(exp_avg=torch.zeros(shape, dtype=torch.int64)),
        "step of parameter 0": moments(step=torch.zeros(3)),
        "other values than": moments(max_exp_avg_sq=torch.zeros(shape)),
        "parameter 9999": dataclasses.replace(good, optimizer={"state": {9999: {}}}),
        "found none": dataclasses.replace(good, optimizer={"state": 3}),
        "1 missing": dataclasses.replace(good, model=fewer),
        r"\(ema\)": dataclasses.replace(good, ema=flat),
        "backbone of": dataclasses.replace(good, backbone="vgg"),
        "malformed": dataclasses.replace(good, recipe={"a": torch.zeros(2)}),
    }
    for message, checkpoint in faults.items():
        save_checkpoint(path, checkpoint)
        with pytest.raises(CheckpointError, match=message):
            load_training_state(path)
