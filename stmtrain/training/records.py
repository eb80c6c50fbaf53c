"""The records of a run: ``metrics.jsonl``, ``curves.png``, and boards to watch it on."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from stmtrain.files import whole_file, write_whole
from stmtrain.images.draw import overlay, strip
from stmtrain.streaming.batch import Batch
from stmtrain.streaming.loader import Loader
from stmtrain.training.boards import Board, open_boards
from stmtrain.training.recipe import TrainRecipe, learning_rate
from stmtrain.training.step import LastFrame, StepResult

_METRICS_NAME = "metrics.jsonl"

_POINTS, _FEW_POINTS = 100, 20

_PANELS = (("loss", "loss", 0.05), ("jaccard", "J", 0.05), ("learning_rate", "learning rate", 0.0))
"""Panels of ``curves.png``: metric, title, share of the points that the moving average covers."""


def lines_every(recipe: TrainRecipe) -> int:
    """Return the steps between lines: fewer in a short run, whose curves need points too."""
    return min(recipe.log_every, max(1, recipe.steps // _POINTS))


@dataclass(frozen=True)
class StepMetrics:
    """The numbers of one step.

    Attributes:
        step: Optimiser steps done.
        result: Loss, J and norm of the gradient.
        learning_rate: Learning rate of the step.
        clips_per_second: Over all ranks, mean since this process started.
        waited: Seconds spent waiting for data since this process started.
        waited_share: The same as a share of the time spent in steps.
        gpu_memory: Peak of the bytes allocated on the GPU; 0 on the CPU.
        skipped: How often each unusable sample was skipped, by the message that names it.
    """

    step: int
    result: StepResult
    learning_rate: float
    clips_per_second: float
    waited: float
    waited_share: float
    gpu_memory: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)

    def note(self) -> str:
        """Return the numbers as text for the progress bar."""
        parts = [
            f"loss {self.result.loss:.3f}",
            f"J {100 * self.result.jaccard:.0f}",
            f"{self.clips_per_second:.1f} clips/s",
            f"waiting for data {100 * self.waited_share:.1f} %",
        ]
        if self.gpu_memory:
            parts.append(f"{self.gpu_memory / 2**30:.1f} GiB")
        if self.skipped:
            parts.append(f"skipped {sum(self.skipped.values())} samples")
        return "  ".join(parts)


class Meter:
    """Measures steps; the time between steps (records, checkpoints, validation) is not counted."""

    def __init__(self, recipe: TrainRecipe, loader: Loader) -> None:
        """Count from the next step of ``loader``."""
        self._recipe, self._loader = recipe, loader
        self._first, self._seconds = loader.step, 0.0
        self.start()

    def start(self) -> None:
        """Start the clock of a step, before its batch is requested."""
        self._began = time.perf_counter()

    def measure(self, batch: Batch, result: StepResult) -> StepMetrics:
        """Stop the clock, and return the metrics of the step."""
        self._seconds += time.perf_counter() - self._began
        device = batch.frames.device
        clips = (batch.step + 1 - self._first) * self._recipe.batch_size
        return StepMetrics(
            step=batch.step + 1,
            result=result,
            learning_rate=learning_rate(self._recipe, batch.step),
            clips_per_second=clips / self._seconds,
            waited=self._loader.waited,
            waited_share=self._loader.waited / self._seconds,
            gpu_memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
            skipped=dict(self._loader.skipped),
        )


@dataclass
class Journal:
    """The open records of a run; without a file (on ranks above 0) nothing is recorded."""

    out: Path
    metrics: TextIO | None = None
    boards: Sequence[Board] = ()

    def write(self, metrics: StepMetrics) -> None:
        """Record the numbers of a step."""
        scalars = {
            "loss": round(metrics.result.loss, 6),
            "jaccard": round(metrics.result.jaccard, 5),
            "grad_norm": round(metrics.result.grad_norm, 6),
            "learning_rate": metrics.learning_rate,
            "clips_per_second": round(metrics.clips_per_second, 3),
            "waited_share": round(metrics.waited_share, 5),
        }
        extra: dict[str, Any] = {"waited_seconds": round(metrics.waited, 3)}
        if metrics.gpu_memory:
            extra["gpu_memory_bytes"] = metrics.gpu_memory
        if metrics.skipped:
            extra["skipped"] = dict(metrics.skipped)
        self._write_line(metrics.step, {**scalars, **extra})
        self._write_scalars("train", scalars, metrics.step)

    def write_validation(self, step: int, scores: Mapping[str, float]) -> None:
        """Record the scores of a validation, in [0, 1]."""
        self._write_line(step, {"validation": {k: round(v, 5) for k, v in scores.items()}})
        self._write_scalars("validation", scores, step)

    def write_picture(self, step: int, last_frame: LastFrame) -> None:
        """Record a frame, its predicted and its true mask, side by side."""
        if self.boards:
            frame, predicted, truth = last_frame.pictures()
            sheet = strip([frame, overlay(frame, predicted), overlay(frame, truth)])
            for board in self.boards:
                board.add_image("frame, prediction, truth", sheet, step, dataformats="HWC")

    def draw_curves(self) -> None:
        """Draw ``curves.png`` from the metrics written so far, if matplotlib is installed."""
        if self.metrics is None:
            return
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            return
        self.metrics.flush()
        text = (self.out / _METRICS_NAME).read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        steps = [line for line in lines if "loss" in line]
        validations = [line for line in lines if "validation" in line]
        figure = Figure(figsize=(11, 3.4), layout="constrained")
        panels = figure.subplots(1, 3)
        for panel, (name, title, smooth) in zip(panels, _PANELS, strict=True):
            _curve(panel, [line["step"] for line in steps], [line[name] for line in steps], smooth)
            panel.set(title=title, xlabel="step")
            panel.grid(alpha=0.3)
        if validations:
            at = [line["step"] for line in validations]
            scores = [line["validation"]["j_and_f"] for line in validations]
            panels[1].plot(at, scores, "o-", color="C1", label="J&F, validation")
        panels[1].set_ylim(0, 1)
        panels[1].legend(loc="best", fontsize="small")
        with whole_file(self.out / "curves.png") as file:
            FigureCanvasAgg(figure).print_png(file)  # type: ignore[no-untyped-call]

    def _write_line(self, step: int, value: Mapping[str, Any]) -> None:
        if self.metrics is not None:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            self.metrics.write(json.dumps({"step": step, "time": now, **value}) + "\n")

    def _write_scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        for board in self.boards:
            for name, value in values.items():
                board.add_scalar(f"{group}/{name}", value, step)


@contextmanager
def open_journal(
    out: Path,
    first: int,
    validated: int = 0,
    *,
    active: bool = True,
    wandb: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> Iterator[Journal]:
    """Open the records of a run for appending, without the lines of steps that will be repeated.

    Args:
        out: The run's folder.
        first: Steps done, according to the checkpoint.
        validated: Step of the last validation, according to the checkpoint.
        active: Whether this rank writes records.
        wandb: Project of Weights & Biases, if the run is to be recorded there too.
        config: The recipe, for Weights & Biases.

    Raises:
        UsageError: Weights & Biases cannot start.
    """
    if not active:
        yield Journal(out)
        return
    path = out / _METRICS_NAME
    kept = []
    if first and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):  # the last line of a killed process may be cut
                value = json.loads(line)
                if value["step"] <= (validated if "validation" in value else first):
                    kept.append(line)
    # Renamed into place: no line may be lost if the process is killed in between.
    write_whole(path, "".join(kept))
    with (
        open_boards(out, first, wandb, config or {}) as boards,
        path.open("a", encoding="utf-8", buffering=1) as file,
    ):
        yield Journal(out, file, boards)


def _curve(panel: Any, steps: list[int], values: list[float], smooth: float) -> None:
    """Plot the values; with ``smooth`` > 0 faintly, and their moving average on top of them."""
    width = max(1, round(smooth * len(values)))
    style = "o-" if len(values) <= _FEW_POINTS else "-"  # a single point is no line
    faint = 0.3 if width > 1 else 1.0
    panel.plot(steps, values, style, alpha=faint, color="C0", label="training clips")
    if width > 1:
        means = np.convolve(values, np.ones(width) / width, mode="valid")
        panel.plot(steps[width - 1 :], means, color="C0")
