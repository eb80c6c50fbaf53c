"""A folder contains one run, which can be resumed; its checkpoints are kept by policy."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stmtrain.errors import CheckpointError, UsageError
from stmtrain.files import locked
from stmtrain.train import train
from stmtrain.training.distributed import SINGLE
from stmtrain.training.run_folder import CheckpointSaver
from stmtrain.training.setup import build_state
from stmtrain.weights.checkpoint import load_checkpoint
from tests.sets import pack_davis
from tests.training.runs import EVERYTHING, RECIPE, metrics, options, train_quietly


def test_a_folder_contains_one_run(shards: Path, straight: Path) -> None:
    out = straight
    with pytest.raises(UsageError, match=r"\.pt: .* already complete .* --resume .* --out"):
        train_quietly(shards, out)
    with pytest.raises(UsageError, match=r"another seed \(seed: expected 0, found 1\)"):
        train_quietly(shards, out, replace(RECIPE, seed=1), resume=True)
    with pytest.raises(UsageError, match="another steps"):  # the poly schedule depends on it
        train_quietly(shards, out, replace(RECIPE, steps=9), resume=True)


def test_two_runs_never_write_into_one_folder(shards: Path, tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(UsageError, match="another run is writing here"):
        train_quietly(shards, tmp_path)
    assert not list(tmp_path.iterdir())
    train_quietly(shards, tmp_path, replace(RECIPE, steps=1))


def test_nothing_to_resume_is_said(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to resume"):
        train_quietly(shards, tmp_path / "none", resume=True)


def test_a_checkpoint_of_another_kind_is_refused(shards: Path, tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=r"no training state; .* --init"):
        train_quietly(shards, tmp_path, resume=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        train_quietly(shards, tmp_path, resume=True)


def test_other_data_is_refused_unless_told(shards: Path, tmp_path: Path, davis_tree: Path) -> None:
    short = replace(EVERYTHING, steps=1, val_every=0)
    train(options(shards, tmp_path / "run"), short, lambda *_: None)
    other = tmp_path / "other"
    pack_davis(davis_tree, 2017, "train", other, workers=1, shard_bytes=1)
    longer = replace(short, schedule="constant", steps=2)
    run = options(other, tmp_path / "run", resume=True)
    with pytest.raises(UsageError, match="another schedule, shards"):
        train(run, longer, lambda *_: None)
    with pytest.raises(UsageError, match=r"another shards .*, or add --other-data"):
        train(run, short, lambda *_: None)
    train(replace(run, other_data=True), short, lambda *_: None)


def test_checkpoints_are_kept_by_policy(done: Path) -> None:
    out = done
    names = sorted(path.name for path in out.glob("*.pt"))
    assert names == ["best.pt", "checkpoint.pt", "step-00000002.pt", "step-00000004.pt"]
    steps = {name: load_checkpoint(out / name).step for name in names}
    assert (steps["checkpoint.pt"], steps["step-00000002.pt"]) == (4, 2)
    assert not list(out.glob("*.tmp"))


def test_checkpoints_are_saved_at_their_interval(shards: Path, tmp_path: Path) -> None:
    found: list[int] = []  # steps in checkpoint.pt while each step is reported

    def progress(_step: int, _steps: int, note: str) -> None:
        path = tmp_path / "checkpoint.pt"
        if note.startswith("loss"):
            found.append(load_checkpoint(path).step if path.exists() else 0)

    train(options(shards, tmp_path), replace(RECIPE, steps=4, save_every=2), progress)
    assert found == [0, 0, 2, 2]


def test_only_a_better_score_replaces_the_best_checkpoint(tmp_path: Path) -> None:
    run = options(tmp_path, tmp_path)
    state = build_state(run, RECIPE, None, torch.device("cpu"), SINGLE)
    saver = CheckpointSaver(run, RECIPE, (), state, SINGLE)
    for state.step, score, best in ((1, 0.5, 1), (2, 0.4, 1), (3, 0.6, 3), (4, 0.6, 3)):
        saver.save()  # as before every validation
        saver.save_validated(score)
        assert load_checkpoint(tmp_path / "best.pt").step == best
        last = load_checkpoint(tmp_path / "checkpoint.pt")
        assert (last.step, last.validated) == (state.step, state.step)
    assert last.best == 0.6


def test_the_best_checkpoint_is_the_one_that_scored_best(done: Path) -> None:
    out = done
    lines = metrics(out)
    scores = {line["step"]: line["validation"]["j_and_f"] for line in lines if "validation" in line}
    assert sorted(scores) == [2, 4]
    best = load_checkpoint(out / "best.pt")
    assert best.best == pytest.approx(max(scores.values()), abs=1e-4)
    assert scores[best.step] == max(scores.values())
    assert len(list((out / "validation").rglob("*.png"))) > 0
