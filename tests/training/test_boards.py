"""Weights & Biases, offline: the numbers of the journal, and one run across resuming."""

from dataclasses import replace
from pathlib import Path

import pytest

from stmtrain.errors import UsageError
from stmtrain.train import train
from tests.training.runs import RECIPE, metrics, options

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


def test_a_run_is_recorded_offline(shards: Path, tmp_path: Path) -> None:
    run = options(shards, tmp_path, wandb="test")
    constant = replace(RECIPE, schedule="constant", max_skip=(0, 0), steps=2)
    train(run, constant, lambda *_: None)
    train(replace(run, resume=True), replace(constant, steps=3), lambda *_: None)
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    identity = (tmp_path / "wandb_id").read_text().strip()
    assert [file.name for file in files] == [f"run-{identity}.wandb"] * 2
    for file, lines in zip(files, (metrics(tmp_path)[:2], metrics(tmp_path)[2:]), strict=True):
        data = file.read_bytes()
        assert b"train/loss" in data
        for line in lines:
            assert str(line["loss"]).encode() in data


def test_why_it_does_not_start_is_said(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_options: object) -> None:
        raise wandb.errors.UsageError("api_key not configured")

    monkeypatch.setattr(wandb, "init", fail)
    run = options(shards, tmp_path, wandb="test")
    with pytest.raises(UsageError, match=r"api_key not configured.*WANDB_MODE=offline"):
        train(run, RECIPE, lambda *_: None)
