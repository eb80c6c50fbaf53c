"""What a run leaves behind: checkpoints by policy, records, pictures, and a way to replay."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import cli
from stmdata.packing.videos import pack_davis
from stmtrain.errors import UsageError
from stmtrain.model import STM
from stmtrain.train import train
from stmtrain.training.losses import clip_losses
from stmtrain.training.recipe import MAIN
from stmtrain.training.records import StepMetrics
from stmtrain.training.replay import replay
from stmtrain.training.setup import TrainOptions
from stmtrain.training.step import NonFiniteError, averaged
from stmtrain.weights.checkpoint import load_checkpoint, load_model_and_origin

RECIPE = replace(
    MAIN,
    size=32,
    batch_size=2,
    steps=4,
    learning_rate=1e-3,
    log_every=1,
    image_every=2,
    save_every=3,
    keep_every=2,
    val_every=2,
    ema=0.5,
    bootstrap=0.5,
    dice=1.0,
    clip_norm=1.0,
    accumulate=2,
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, davis_tree: Path) -> Path:
    out = tmp_path_factory.mktemp("shards") / "davis"
    pack_davis(davis_tree, 2017, "train", out, workers=1)
    return out


def _run(shards: Path, out: Path, **options: object) -> TrainOptions:
    return replace(
        TrainOptions((shards,), (1.0,), out, "resnet18", "none", device="cpu", threads=1),
        **options,  # type: ignore[arg-type]
    )


def _metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def done(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with every kind of record."""
    out = tmp_path_factory.mktemp("run") / "run"
    train(_run(shards, out, val=shards), RECIPE, lambda *_: None)
    return out


def test_checkpoints_are_kept_by_policy(done: Path) -> None:
    out = done
    names = sorted(path.name for path in out.glob("*.pt"))
    assert names == ["best.pt", "checkpoint.pt", "step-00000002.pt", "step-00000004.pt"]
    steps = {name: load_checkpoint(out / name).step for name in names}
    assert (steps["checkpoint.pt"], steps["step-00000002.pt"]) == (4, 2)
    assert not list(out.glob("*.tmp"))


def test_the_best_checkpoint_is_the_one_that_scored_best(
    done: Path,
) -> None:
    out = done
    lines = _metrics(out)
    scores = {line["step"]: line["validation"]["j_and_f"] for line in lines if "validation" in line}
    assert sorted(scores) == [2, 4]
    best = load_checkpoint(out / "best.pt")
    assert best.best == pytest.approx(max(scores.values()), abs=1e-4)
    assert scores[best.step] == max(scores.values())
    assert len(list((out / "validation").rglob("*.png"))) > 0


def test_metrics_contain_every_number_of_every_step(done: Path) -> None:
    logged = [line for line in _metrics(done) if "loss" in line]
    assert [line["step"] for line in logged] == [1, 2, 3, 4]
    assert all(0 <= line["jaccard"] <= 1 and line["grad_norm"] > 0 for line in logged)
    assert all(line["clips_per_second"] > 0 <= line["waited_share"] <= 1 for line in logged)


def test_the_note_of_a_step_names_what_is_unusual() -> None:
    metrics = StepMetrics(7, 1.5, 0.25, 3.0, 1e-5, 12.3, 0.5, 0.02)
    assert metrics.note() == "loss 1.500  J 25  12.3 clips/s  waiting for data 2.0 %"
    unusual = replace(metrics, gpu_memory=3 * 2**29, skipped={"a is damaged": 2, "b": 1})
    assert unusual.note() == f"{metrics.note()}  1.5 GiB  skipped 3 bad samples"


def test_curves_and_tensorboard_are_drawn(done: Path) -> None:
    out = done
    with Image.open(out / "curves.png") as image:
        assert image.width > 800
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "train/jaccard", "validation/j_and_f"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [event.step for event in events.Images("frame, prediction, truth")] == [2, 4]


def test_averaged_weights_are_what_is_evaluated(done: Path) -> None:
    out = done
    saved = load_checkpoint(out / "checkpoint.pt")
    assert saved.ema is not None
    name = "Decoder.pred2.weight"
    assert not torch.equal(saved.model[name], saved.ema[name])
    model, origin = load_model_and_origin(out / "checkpoint.pt")
    assert torch.equal(model.state_dict()[name], saved.ema[name])
    assert "averaged weights" in origin["trained"]


def test_stopped_with_every_option_and_resumed_is_the_same_to_the_bit(
    shards: Path, tmp_path: Path, done: Path
) -> None:
    class Stop(Exception):
        pass

    def progress(step: int, _steps: int, _note: str) -> None:
        if step == 3:
            raise Stop

    with pytest.raises(Stop):
        train(_run(shards, tmp_path, val=shards), RECIPE, progress)
    train(_run(shards, tmp_path, val=shards, resume=True), RECIPE, lambda *_: None)
    ours, theirs = (load_checkpoint(out / "checkpoint.pt") for out in (tmp_path, done))
    assert ours.best == theirs.best
    for a, b in ((ours.model, theirs.model), (ours.ema, theirs.ema)):
        assert a is not None
        assert b is not None
        assert all(torch.equal(a[name], b[name]) for name in b)


def test_a_validation_that_was_due_when_stopped_is_made_up_for(
    shards: Path, tmp_path: Path, done: Path
) -> None:
    def progress(step: int, _steps: int, _note: str) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(_run(shards, tmp_path, val=shards), RECIPE, progress)
    assert load_checkpoint(tmp_path / "checkpoint.pt").validated == 0
    with (tmp_path / "metrics.jsonl").open("a") as file:  # written, but killed before the save
        file.write('{"step": 2, "validation": {"j_and_f": 0.5, "j": 0.5, "f": 0.5}}\n')
    train(_run(shards, tmp_path, val=shards, resume=True), RECIPE, lambda *_: None)
    ours, theirs = (
        [line for line in _metrics(out) if "validation" in line] for out in (tmp_path, done)
    )
    assert ours == theirs


def test_the_average_follows_quickly_at_first() -> None:
    model = STM("resnet18")
    ema = averaged(model, 0.999)
    name = "Decoder.pred2.bias"
    with torch.no_grad():
        for step in range(1, 60):
            dict(model.named_parameters())[name].fill_(float(step))
            ema.update_parameters(model)
    value = float(ema.module.state_dict()[name][0])
    assert 45 < value < 59  # a decay of 0.999 from the start would still be below 3


def test_an_unknown_backbone_is_a_usage_error(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--backbone vgg: expected one of resnet50"):
        train(_run(shards, tmp_path, backbone="vgg"), RECIPE, lambda *_: None)
    assert not list(tmp_path.iterdir())


def test_other_data_is_refused_unless_told(shards: Path, tmp_path: Path, davis_tree: Path) -> None:
    short = replace(RECIPE, steps=1, val_every=0)
    train(_run(shards, tmp_path / "run"), short, lambda *_: None)
    other = tmp_path / "other"
    pack_davis(davis_tree, 2017, "train", other, workers=1, shard_bytes=1)
    longer = replace(short, schedule="constant", steps=2)
    run = _run(other, tmp_path / "run", resume=True)
    with pytest.raises(UsageError, match="another schedule, shards"):
        train(run, longer, lambda *_: None)
    with pytest.raises(UsageError, match=r"another shards .*, or add --other-data"):
        train(run, short, lambda *_: None)
    train(replace(run, other_data=True), short, lambda *_: None)


def test_a_ruined_step_is_replayed_clip_by_clip(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(RECIPE, steps=3, val_every=0, accumulate=1, save_every=1)
    real = clip_losses

    def ruined(model, frames, *arguments, **options):  # type: ignore[no-untyped-def]
        losses, logits = real(model, frames, *arguments, **options)
        return losses * (float("nan") if (tmp_path / "ruin").exists() else 1), logits

    def progress(step: int, _steps: int, _note: str) -> None:
        if step == 2:
            (tmp_path / "ruin").touch()

    monkeypatch.setattr("stmtrain.training.step.clip_losses", ruined)
    with pytest.raises(NonFiniteError, match="step 2: the loss is nan"):
        train(_run(shards, tmp_path / "run"), plain, progress)
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt").step == 2
    monkeypatch.undo()
    told = json.loads((tmp_path / "run" / "replay.json").read_text())
    again = replay(tmp_path / "run" / "replay.json", "cpu")
    assert [clip.key for clip in again.clips] == told["keys"]
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
