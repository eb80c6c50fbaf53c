"""A run says at its start what it trains on what, and shows what it does between steps."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from stmtrain.train import train
from stmtrain.weights.checkpoint import load_checkpoint
from tests.training.runs import RECIPE, options


@pytest.fixture(scope="module")
def told(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """What a run with a validation says, and the notes of its progress."""
    said: list[str] = []
    notes: list[str] = []
    run = options(shards, tmp_path_factory.mktemp("run"), val=shards)
    train(run, replace(RECIPE, steps=2), lambda *p: notes.append(p[2]), say=said.append)
    return said, notes


def test_the_opening_has_the_numbers_of_the_run(told: tuple[list[str], list[str]]) -> None:
    opening = "\n".join(told[0])
    for text in (
        "device: cpu",
        "float32",
        "STM with resnet18, 13.2 M parameters, from random weights",
        "clips: 2 samples of",
        "batch: 2 clips of 3 frames, 32x32 pixels; 2 steps",
        "metrics.jsonl",
    ):
        assert text in opening


def test_what_happens_between_steps_is_shown(told: tuple[list[str], list[str]]) -> None:
    said, notes = told
    assert notes[0] == "waiting for data"
    steps = [place for place, note in enumerate(notes) if note.startswith("loss")]
    after = notes[steps[-1] + 1 :]
    assert after[0] == "saving"
    assert after[1].startswith("validating, video 1 of 2: ")
    assert after[2].startswith("validating, video 2 of 2: ")
    assert said[-1].startswith("validation at step 2: J&F ")
    assert said[-1].endswith("the best so far")


def test_a_complete_run_says_so_when_it_is_resumed(shards: Path, straight: Path) -> None:
    said: list[str] = []
    train(options(shards, straight, resume=True), RECIPE, lambda *_: None, say=said.append)
    assert said[-1] == "already complete: 4 of 4 steps are done"


def test_a_stopped_validation_loses_no_step(shards: Path, tmp_path: Path) -> None:
    """It ends at the next video, not after the last one, and is repeated on resuming."""
    run, recipe = options(shards, tmp_path, val=shards), replace(RECIPE, steps=1)
    notes: list[str] = []

    def progress(_done: int, _total: int, note: str) -> None:
        notes.append(note)
        if note.startswith("validating, video 1"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(run, recipe, progress)
    assert not any(note.startswith("validating, video 2") for note in notes)
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    assert (saved.step, saved.validated) == (1, 0)
    train(replace(run, resume=True), recipe, lambda *_: None)
    assert load_checkpoint(tmp_path / "checkpoint.pt").validated == 1
