"""What a run says about itself: progress, ``metrics.jsonl``, TensorBoard, ``curves.png``."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from stmtrain.files import whole_file, write_whole
from stmtrain.images.draw import overlay, strip

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = [
    "CURVES_NAME",
    "METRICS_NAME",
    "TENSORBOARD_NAME",
    "Journal",
    "Progress",
    "draw_curves",
    "open_journal",
    "progress_note",
]

METRICS_NAME = "metrics.jsonl"
CURVES_NAME = "curves.png"
TENSORBOARD_NAME = "tensorboard"

_SMOOTH = 0.05  # share of the lines that the smoothed curve averages over


@dataclass(frozen=True)
class Progress:
    """What the loop reports after every step.

    Attributes:
        step: Optimiser steps done.
        steps: Steps of the run.
        clips: Clips seen since this process started, over all ranks.
        loss: Mean over the step's clips.
        jaccard: J of the last frame's objects, mean over the step's clips, in [0, 1].
        grad_norm: Norm of the gradient, before clipping.
        learning_rate: Of the step.
        seconds: Time spent in steps since this process started.
        waited: Seconds of it spent waiting for data.
        gpu_memory: Most bytes allocated on the GPU; 0 on the CPU.
        skipped: Bad samples passed over, by the message that names each.
        stopping: A rank was asked to stop; this was the last step.
    """

    step: int
    steps: int
    clips: int
    loss: float
    jaccard: float
    grad_norm: float
    learning_rate: float
    seconds: float
    waited: float
    gpu_memory: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    stopping: bool = False


def progress_note(progress: Progress) -> str:
    """Say what a step gave, for the progress bar."""
    parts = [
        f"loss {progress.loss:.3f}",
        f"J {100 * progress.jaccard:.0f}",
        f"{progress.clips / progress.seconds:.1f} clips/s",
        f"waiting for data {100 * progress.waited / progress.seconds:.1f} %",
    ]
    if progress.gpu_memory:
        parts.append(f"{progress.gpu_memory / 2**30:.1f} GiB")
    skipped = sum(progress.skipped.values())
    return "  ".join(parts) + (f"  skipped {skipped} bad samples" if skipped else "")


@dataclass
class Journal:
    """The open records of a run; without a file (ranks above 0) it keeps silent."""

    out: Path
    metrics: TextIO | None = None
    board: "SummaryWriter | None" = None

    def write(self, progress: Progress) -> None:
        """Record a step's numbers."""
        scalars = {
            "loss": round(progress.loss, 6),
            "jaccard": round(progress.jaccard, 5),
            "grad_norm": round(progress.grad_norm, 6),
            "learning_rate": progress.learning_rate,
            "clips_per_second": round(progress.clips / progress.seconds, 3),
            "waited_share": round(progress.waited / progress.seconds, 5),
        }
        extra: dict[str, Any] = {"waited_seconds": round(progress.waited, 3)}
        if progress.gpu_memory:
            extra["gpu_memory_bytes"] = progress.gpu_memory
        if progress.skipped:
            extra["skipped"] = dict(progress.skipped)
        self._line({"step": progress.step, **scalars, **extra})
        self._scalars("train", scalars, progress.step)

    def write_validation(self, step: int, scores: Mapping[str, float]) -> None:
        """Record what an evaluation gave, values in [0, 1]."""
        self._line({"step": step, "validation": {k: round(v, 5) for k, v in scores.items()}})
        self._scalars("validation", scores, step)

    def write_picture(
        self,
        step: int,
        frame: NDArray[np.uint8],
        predicted: NDArray[np.uint8],
        truth: NDArray[np.uint8],
    ) -> None:
        """Record a frame (H,W,3), its prediction and its truth (H,W), side by side."""
        if self.board is not None:
            sheet = strip([frame, overlay(frame, predicted), overlay(frame, truth)])
            self.board.add_image("frame, prediction, truth", sheet, step, dataformats="HWC")

    def draw_curves(self) -> None:
        """Draw ``curves.png`` from what was written so far."""
        if self.metrics is not None:
            self.metrics.flush()
            draw_curves(self.out)

    def _line(self, value: Mapping[str, Any]) -> None:
        if self.metrics is not None:
            self.metrics.write(json.dumps(value) + "\n")

    def _scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"{group}/{name}", value, step)


@contextmanager
def open_journal(
    out: Path, first: int, validated: int = 0, *, active: bool = True
) -> Iterator[Journal]:
    """Open a run's records for appending, after dropping lines of what will be done again.

    Args:
        out: The run's folder.
        first: Steps that are done, by the checkpoint.
        validated: Step of the last validation that is done, by the checkpoint.
        active: Whether this rank writes at all.
    """
    if not active:
        yield Journal(out)
        return
    path = out / METRICS_NAME
    kept = []
    if first and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n") and _stays(json.loads(line), first, validated):
                kept.append(line)
    # Renamed into place: killed in between, the lines of the steps that are kept must not be lost.
    write_whole(path, "".join(kept))
    board = _open_board(out / TENSORBOARD_NAME, first)
    try:
        with path.open("a", encoding="utf-8", buffering=1) as file:
            yield Journal(out, file, board)
    finally:
        if board is not None:
            board.close()


def _stays(line: Mapping[str, Any], first: int, validated: int) -> bool:
    return bool(line["step"] <= (validated if "validation" in line else first))


def _open_board(folder: Path, first: int) -> "SummaryWriter | None":
    """Open TensorBoard's log where it is installed; steps after ``first`` are made again."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first + 1)


def draw_curves(out: Path) -> Path | None:
    """Draw loss, J and validation over the steps of ``metrics.jsonl``; None without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    text = (out / METRICS_NAME).read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    steps = [line for line in lines if "loss" in line]
    checks = [line for line in lines if "validation" in line]
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    panels = figure.subplots(1, 3)
    for panel, name, title in zip(
        panels, ("loss", "jaccard", "learning_rate"), ("loss", "J", "learning rate"), strict=False
    ):
        smooth = _SMOOTH if name != "learning_rate" else 0.0
        _curve(panel, [s["step"] for s in steps], [s[name] for s in steps], smooth)
        panel.set(title=title, xlabel="step")
        panel.grid(alpha=0.3)
    if checks:
        values = [c["validation"]["j_and_f"] for c in checks]
        panels[1].plot(
            [c["step"] for c in checks], values, "o-", color="C1", label="J&F, validation"
        )
    panels[1].set_ylim(0, 1)
    panels[1].legend(loc="best", fontsize="small")
    path = out / CURVES_NAME
    with whole_file(path) as file:
        FigureCanvasAgg(figure).print_png(file)  # type: ignore[no-untyped-call]
    return path


def _curve(panel: Any, steps: list[int], values: list[float], smooth: float) -> None:
    """Plot the values faintly and their moving average, over a share of them, clearly."""
    width = max(1, round(smooth * len(values)))
    panel.plot(steps, values, alpha=0.3 if width > 1 else 1.0, color="C0", label="training clips")
    if width > 1:
        means = np.convolve(values, np.ones(width) / width, mode="valid")
        panel.plot(steps[width - 1 :], means, color="C0")
