"""A run leaves its files, resumes to the bit, and loses nothing when it is stopped."""

import os
import signal
from pathlib import Path

import pytest
import torch

from stmtrain.errors import DataError
from stmtrain.train import train
from stmtrain.training.losses import clip_losses
from stmtrain.weights.checkpoint import load_checkpoint, load_model_and_origin
from tests.training.runs import EVERYTHING, RECIPE, metrics, options, train_quietly


def test_a_run_leaves_checkpoint_recipe_and_metrics(straight: Path) -> None:
    out = straight
    checkpoint = load_checkpoint(out / "checkpoint.pt")
    assert (checkpoint.step, checkpoint.backbone, checkpoint.batchnorm) == (4, "resnet18", "train")
    assert [line["step"] for line in metrics(out)] == [1, 2, 3, 4]
    assert "learning_rate = 0.001" in (out / "recipe.toml").read_text()
    model, origin = load_model_and_origin(out / "checkpoint.pt")
    assert model.backbone.name == "resnet18"
    assert "4 steps" in origin["trained"]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed_is_the_same_to_the_bit(
    shards: Path, tmp_path: Path, straight: Path, stop: signal.Signals
) -> None:
    def progress(step: int, _steps: int, _note: str) -> None:
        if step == 3:
            os.kill(os.getpid(), stop)

    with pytest.raises(KeyboardInterrupt):
        train(options(shards, tmp_path), RECIPE, progress)
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2, 3]
    seen = train_quietly(shards, tmp_path, resume=True)
    for name in ("step", "loss", "jaccard", "grad_norm", "learning_rate"):
        assert [line[name] for line in seen] == [line[name] for line in metrics(straight)]
    ours = load_checkpoint(tmp_path / "checkpoint.pt").model
    theirs = load_checkpoint(straight / "checkpoint.pt").model
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_stopped_with_every_option_and_resumed_is_the_same_to_the_bit(
    shards: Path, tmp_path: Path, done: Path
) -> None:
    class Stop(Exception):
        pass

    def progress(step: int, _steps: int, _note: str) -> None:
        if step == 3:
            raise Stop

    with pytest.raises(Stop):
        train(options(shards, tmp_path, val=shards), EVERYTHING, progress)
    train(options(shards, tmp_path, val=shards, resume=True), EVERYTHING, lambda *_: None)
    ours, theirs = (load_checkpoint(out / "checkpoint.pt") for out in (tmp_path, done))
    assert ours.best == theirs.best
    for a, b in ((ours.model, theirs.model), (ours.ema, theirs.ema)):
        assert a is not None
        assert b is not None
        assert all(torch.equal(a[name], b[name]) for name in b)


def test_a_non_finite_loss_stops_and_names_the_clips(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = clip_losses

    def poisoned(*args: object, **options: bool) -> object:
        losses, logits = real(*args, **options)  # type: ignore[arg-type]
        return losses * float("nan"), logits

    monkeypatch.setattr("stmtrain.training.step.clip_losses", poisoned)
    with pytest.raises(
        DataError, match=r"step 0: the loss is nan .* on clips drawn-0\d, drawn-0\d"
    ):
        train_quietly(shards, tmp_path)
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    assert state.step == 0
    assert all(t.isfinite().all() for t in state.model.values())
