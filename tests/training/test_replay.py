"""A failed step can be repeated, clip by clip."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import cli
from stmtrain.errors import UsageError
from stmtrain.train import train
from stmtrain.training.losses import clip_losses
from stmtrain.training.replay import replay
from stmtrain.training.step import NonFiniteError
from stmtrain.weights.checkpoint import load_checkpoint
from tests.training.runs import EVERYTHING, options


def test_a_ruined_step_is_replayed_clip_by_clip(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(EVERYTHING, steps=3, val_every=0, accumulate=1, save_every=1)
    real = clip_losses

    def ruined(model, frames, *arguments, **options):  # type: ignore[no-untyped-def]
        losses, logits = real(model, frames, *arguments, **options)
        return losses * (float("nan") if (tmp_path / "ruin").exists() else 1), logits

    def progress(step: int, _steps: int, _note: str) -> None:
        if step == 2:
            (tmp_path / "ruin").touch()

    monkeypatch.setattr("stmtrain.training.step.clip_losses", ruined)
    with pytest.raises(NonFiniteError, match="step 2: the loss is nan"):
        train(options(shards, tmp_path / "run"), plain, progress)
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt").step == 2
    monkeypatch.undo()
    written = json.loads((tmp_path / "run" / "replay.json").read_text())
    again = replay(tmp_path / "run" / "replay.json", "cpu")
    assert [clip.key for clip in again.clips] == written["keys"]
    assert all(np.isfinite(clip.loss) and clip.broken == "" for clip in again.clips)
    assert again.picture.exists()

    def broken_weights(path: Path) -> None:
        saved = load_checkpoint(path)
        saved.model["KV_Q_r4.Key.weight"].fill_(float("inf"))
        value = torch.load(path, weights_only=True)
        value["model"] = dict(saved.model)
        torch.save(value, path)

    broken_weights(tmp_path / "run" / "checkpoint.pt")
    result = CliRunner().invoke(
        cli.app, ["train", "--replay", str(tmp_path / "run" / "replay.json"), "--device", "cpu"]
    )
    assert result.exit_code == 0, result.output
    assert "KV_Q_r4.Key" in result.output


def test_what_is_no_replay_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "replay.json").write_text("{}")
    for name in ("replay.json", "none.json"):
        with pytest.raises(UsageError, match=r"expected a replay\.json written by stm train"):
            replay(tmp_path / name, "cpu")


@pytest.mark.parametrize(
    "wrong",
    [
        {"checkpoint": "../x.pt"},
        {"checkpoint": 3},
        {"shards": "x"},
        {"shards": ["x", "y"]},
        {"weights": [float("nan")]},
        {"step": "3"},
        {"recipe": []},
        {"recipe": {"seed": "x"}},
        {"backbone": None},
    ],
)
def test_a_replay_file_with_wrong_values_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    value = {"step": 3, "shards": ["x"], "weights": [1.0], "backbone": "resnet18"}
    value |= {"checkpoint": "checkpoint.pt", "recipe": {}}
    path = tmp_path / "replay.json"
    path.write_text(json.dumps(value | wrong))
    with pytest.raises(UsageError, match=r"replay\.json: .*expected"):
        replay(path, "cpu")
