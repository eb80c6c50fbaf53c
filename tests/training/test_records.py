"""The records of a run: metrics, pictures, curves."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
import torch
from PIL import Image

from stmtrain.training.recipe import MAIN
from stmtrain.training.records import StepMetrics, lines_every, open_journal
from stmtrain.training.step import LastFrame, StepResult
from tests.training.runs import metrics


def test_metrics_contain_every_number_of_every_step(done: Path) -> None:
    logged = [line for line in metrics(done) if "loss" in line]
    assert [line["step"] for line in logged] == [1, 2, 3, 4]
    assert all(0 <= line["jaccard"] <= 1 and line["grad_norm"] > 0 for line in logged)
    times = [datetime.fromisoformat(line["time"]) for line in metrics(done)]
    assert times == sorted(times)
    assert times[0].tzinfo is not None
    assert all(line["clips_per_second"] > 0 <= line["waited_share"] <= 1 for line in logged)


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


@pytest.mark.parametrize("steps", [1, 2, 40, 99, 110, 1999, 2000, 200_000])
def test_a_short_run_has_lines_enough_for_its_curves(steps: int) -> None:
    recipe = replace(MAIN, steps=steps)
    every = lines_every(recipe)
    assert steps // every >= min(steps, 100)
    assert every <= recipe.log_every


def test_the_note_of_a_step_names_what_is_unusual() -> None:
    nothing = torch.empty(0)
    result = StepResult(1.5, 0.25, 3.0, False, LastFrame(nothing, nothing, nothing))
    metrics = StepMetrics(7, result, 1e-5, 12.3, 0.5, 0.02)
    assert metrics.note() == "loss 1.500  J 25  12.3 clips/s  waiting for data 2.0 %"
    unusual = replace(metrics, gpu_memory=3 * 2**29, skipped={"a is damaged": 2, "b": 1})
    assert unusual.note() == f"{metrics.note()}  1.5 GiB  skipped 3 samples"


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
