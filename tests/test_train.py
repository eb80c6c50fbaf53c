"""Training: it resumes to the bit, refuses to mix runs, loses nothing, and can fit a clip."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stmdata.packing.videos import pack_davis
from stmtrain.errors import CheckpointError, DataError, UsageError
from stmtrain.files import locked
from stmtrain.model import STM, set_batchnorm
from stmtrain.streaming.batch import Batch
from stmtrain.train import train
from stmtrain.training.distributed import usable_device
from stmtrain.training.losses import clip_losses, segment_clip
from stmtrain.training.recipe import MAIN, TrainRecipe
from stmtrain.training.records import open_journal
from stmtrain.training.setup import TrainOptions, parse_shards
from stmtrain.training.step import ClipLoss, TrainState, train_step
from stmtrain.weights.checkpoint import load_checkpoint, load_model_and_origin

RECIPE = replace(
    MAIN, size=32, batch_size=2, steps=4, learning_rate=1e-3, log_every=1, save_every=2
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, davis_tree: Path) -> Path:
    out = tmp_path_factory.mktemp("shards") / "davis"
    pack_davis(davis_tree, 2017, "train", out, workers=1)
    return out


def _run(shards: Path, out: Path, *, resume: bool = False) -> TrainOptions:
    return TrainOptions(
        (shards,), (1.0,), out, "resnet18", "none", device="cpu", threads=1, resume=resume
    )


def _train(
    shards: Path, out: Path, recipe: TrainRecipe = RECIPE, **options: bool
) -> list[dict[str, Any]]:
    """Train, and return the lines of metrics.jsonl."""
    train(_run(shards, out, **options), recipe, lambda *_: None)
    return _metrics(out)


def _metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def straight(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was not interrupted."""
    out = tmp_path_factory.mktemp("run") / "straight"
    _train(shards, out)
    return out


def test_a_run_leaves_checkpoint_recipe_and_metrics(straight: Path) -> None:
    out = straight
    checkpoint = load_checkpoint(out / "checkpoint.pt")
    assert (checkpoint.step, checkpoint.backbone, checkpoint.batchnorm) == (4, "resnet18", "train")
    assert [line["step"] for line in _metrics(out)] == [1, 2, 3, 4]
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
        train(_run(shards, tmp_path), RECIPE, progress)
    assert [line["step"] for line in _metrics(tmp_path)] == [1, 2, 3]
    seen = _train(shards, tmp_path, resume=True)
    for name in ("step", "loss", "jaccard", "grad_norm", "learning_rate"):
        assert [line[name] for line in seen] == [line[name] for line in _metrics(straight)]
    ours = load_checkpoint(tmp_path / "checkpoint.pt").model
    theirs = load_checkpoint(straight / "checkpoint.pt").model
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_folder_contains_one_run(shards: Path, straight: Path) -> None:
    out = straight
    with pytest.raises(UsageError, match=r"checkpoint\.pt: .* --resume .* --out"):
        _train(shards, out)
    with pytest.raises(UsageError, match=r"another seed \(seed: expected 0, found 1\)"):
        _train(shards, out, replace(RECIPE, seed=1), resume=True)
    with pytest.raises(UsageError, match="another steps"):  # the poly schedule depends on it
        _train(shards, out, replace(RECIPE, steps=9), resume=True)


def test_two_runs_never_write_into_one_folder(shards: Path, tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(UsageError, match="another run is writing here"):
        _train(shards, tmp_path)
    assert not list(tmp_path.iterdir())
    _train(shards, tmp_path, replace(RECIPE, steps=1))


def test_metrics_of_kept_steps_survive_a_kill_while_the_file_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by tests/soak/soak_train.py: the file was emptied before it was written again."""
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step}) + "\n" for step in (1, 2, 3)]
    path.write_text("".join(lines))

    def killed(_self: Path, _target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt), open_journal(tmp_path, 2):
        pass
    assert path.read_text() == "".join(lines)
    monkeypatch.undo()
    with open_journal(tmp_path, 2):
        pass
    assert path.read_text() == "".join(lines[:2])


def test_nothing_to_resume_is_said(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to resume"):
        _train(shards, tmp_path / "none", resume=True)


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
        _train(shards, tmp_path)
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    assert state.step == 0
    assert all(t.isfinite().all() for t in state.model.values())


def test_a_checkpoint_of_another_kind_is_refused(shards: Path, tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="no training state; give it to --init"):
        _train(shards, tmp_path, resume=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        _train(shards, tmp_path, resume=True)


def test_shard_sets_are_folders_with_weights() -> None:
    assert parse_shards(["a", "b=0.5", "c=d=2"]) == (
        (Path("a"), Path("b"), Path("c=d")),
        (1.0, 0.5, 2.0),
    )
    for bad, message in (("a=x", "with a number"), ("a=0", "above 0"), ("a=nan", "above 0")):
        with pytest.raises(UsageError, match=message):
            parse_shards([bad])


def test_an_unusable_device_is_refused() -> None:
    with pytest.raises(UsageError, match="--device nonsense"):
        usable_device("nonsense")


def _clip(objects: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A clip of flat coloured squares that move, (1,3,3,48,48), masks and object count."""
    frames = torch.full((1, 3, 3, 48, 48), 0.5)
    masks = torch.zeros(1, 3, 48, 48, dtype=torch.uint8)
    for t in range(3):
        for o in range(1, objects + 1):
            box = (slice(4 + 22 * (o - 1), 22 * o), slice(4 + 5 * t, 24 + 5 * t))
            masks[0, t][box] = o
            frames[0, t, o % 3][box] = 1.0
    return frames, masks, torch.tensor([objects])


def test_detaching_cuts_the_gradient_through_the_predicted_mask() -> None:
    torch.manual_seed(0)
    model = STM("resnet18").eval()
    frames, masks, count = _clip()
    gradients = []
    for detach in (False, True):
        model.zero_grad()
        last = list(segment_clip(model, frames, masks, count, detach_memory=detach))[-1]
        last.square().mean().backward()
        gradients.append(model.Decoder.pred2.weight.grad.clone())
    assert not torch.allclose(gradients[0], gradients[1])


def test_void_pixels_do_not_count() -> None:
    torch.manual_seed(0)
    model = STM("resnet18").eval()
    frames, masks, count = _clip()
    with torch.no_grad():
        loss, logits = clip_losses(model, frames, masks, count, detach_memory=True)
        everywhere = masks.clone()
        everywhere[:, 1:] = 255
        nothing, _ = clip_losses(model, frames, everywhere, count, detach_memory=True)
    assert logits.shape == (1, 3, 48, 48)
    assert loss > 0
    assert nothing == 0


def test_one_clip_can_be_learnt() -> None:
    torch.manual_seed(0)
    model = STM("resnet18").train()
    set_batchnorm(model, "train")
    optimizer = torch.optim.Adam(model.parameters())
    frames, masks, count = _clip()
    eye = torch.eye(3).expand(1, 3, 3, 3)
    batch = Batch(
        step=0,
        keys=("drawn",),
        num_objects=count,
        frames=(frames * 255).byte().permute(0, 1, 3, 4, 2).contiguous(),
        masks=masks,
        sizes=torch.tensor([[48, 48]]),
        matrices=eye,
        colours=torch.eye(3, 4).expand(1, 3, 3, 4),
    )
    recipe = replace(RECIPE, size=48, learning_rate=2e-4, schedule="constant")
    state = TrainState(model, ClipLoss(model, recipe), optimizer, "train")
    losses = [train_step(state, batch, recipe).loss for _ in range(12)]
    assert np.mean(losses[-3:]) < 0.35 * losses[0]
