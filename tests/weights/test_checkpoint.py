"""Checkpoints come back as they were saved, and their files keep the names of format version 1."""

import dataclasses
from pathlib import Path

import pytest
import torch

from stmtrain.errors import CheckpointError
from stmtrain.weights.checkpoint import Checkpoint, keep_as, load_checkpoint, save_checkpoint

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
