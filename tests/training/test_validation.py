"""Validation scores the averaged weights, and is not lost when a run is stopped."""

import os
import signal
from pathlib import Path

import pytest
import torch

from stmtrain.train import train
from stmtrain.weights.checkpoint import load_checkpoint, load_model_and_origin
from tests.training.runs import EVERYTHING, metrics, options


def test_a_validation_that_was_due_when_stopped_is_made_up_for(
    shards: Path, tmp_path: Path, done: Path
) -> None:
    def progress(step: int, _steps: int, _note: str) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(options(shards, tmp_path, val=shards), EVERYTHING, progress)
    assert load_checkpoint(tmp_path / "checkpoint.pt").validated == 0
    with (tmp_path / "metrics.jsonl").open("a") as file:  # written, but killed before the save
        file.write('{"step": 2, "validation": {"j_and_f": 0.5, "j": 0.5, "f": 0.5}}\n')
    train(options(shards, tmp_path, val=shards, resume=True), EVERYTHING, lambda *_: None)
    ours, theirs = (
        [line["validation"] for line in metrics(out) if "validation" in line]
        for out in (tmp_path, done)
    )
    assert ours == theirs


def test_averaged_weights_are_what_is_evaluated(done: Path) -> None:
    out = done
    saved = load_checkpoint(out / "checkpoint.pt")
    assert saved.ema is not None
    name = "Decoder.pred2.weight"
    assert not torch.equal(saved.model[name], saved.ema[name])
    model, origin = load_model_and_origin(out / "checkpoint.pt")
    assert torch.equal(model.state_dict()[name], saved.ema[name])
    assert "averaged weights" in origin["trained"]
