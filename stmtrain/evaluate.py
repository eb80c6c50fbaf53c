"""Evaluate a checkpoint on DAVIS: videos, inference, palette PNGs, J and F, ``results.json``."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stmtrain.checkpoint import load_model
from stmtrain.errors import UsageError
from stmtrain.infer import MEMORY_EVERY, segment_video
from stmtrain.model import STM
from stmtrain.palette import encode_mask
from stmtrain.score import score_results
from stmtrain.scores import Scores
from stmtrain.trees import Video, davis_videos

__all__ = ["RESULTS_NAME", "Evaluation", "evaluate_davis", "predict_video"]

RESULTS_NAME = "results.json"

Report = Callable[[int, int, str], None]
"""Called with (frames done, frames in all, video name)."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured.

    Attributes:
        scores: J and F of every object; ``None`` where the split has no public masks.
        protocol: How it was done: data set, split, memory_every, checkpoint, device.
        frames_per_second: Frames over the seconds spent in the network.
        frames_per_second_all: Frames over all seconds, reading and writing included.
        peak_memory: Bytes allocated on the GPU at most; ``None`` on the CPU.
    """

    scores: Scores | None
    protocol: Mapping[str, Any]
    frames_per_second: float
    frames_per_second_all: float
    peak_memory: int | None

    def summary(self) -> str:
        """Say in three lines how the numbers came about, so that they can be compared."""
        origin = self.protocol["checkpoint"]
        memory = "" if self.peak_memory is None else f", {self.peak_memory / 2**30:.2f} GiB peak"
        side = self.protocol["short_side"]
        size = f"short side {side}" if side else "native size"
        return (
            f"{self.protocol['dataset']} at {size}, memory every "
            f"{self.protocol['memory_every']} frames, first and last frame not scored\n"
            f"{origin['backbone']} after {origin['trained']}\n"
            f"{self.frames_per_second:.1f} frames/s, "
            f"{self.frames_per_second_all:.1f} with reading and writing{memory}"
        )


def evaluate_davis(
    checkpoint: Path,
    root: Path,
    year: int,
    split: str,
    out: Path,
    *,
    device: torch.device,
    memory_every: int = MEMORY_EVERY,
    size: int | None = None,
    workers: int = 1,
    report: Report | None = None,
) -> Evaluation:
    """Segment every video of a split from its first mask, write the PNGs, score them.

    ``out`` gets ``<video>/<frame>.png``, the layout that the official tools read, and
    ``results.json``.

    Raises:
        CheckpointError: The weights do not fit any backbone.
        DataError: The tree is incomplete.
        UsageError: ``memory_every`` is not positive.
    """
    if memory_every < 1:
        raise UsageError(f"--memory-every {memory_every}: expected at least 1")
    if size is not None and size < 16:
        raise UsageError(f"--size {size}: expected a short side of at least 16 pixels")
    videos = davis_videos(root, year, split)
    model, origin = load_model(checkpoint)
    model.to(device).eval()
    began = time.perf_counter()
    busy, done = 0.0, 0
    total = sum(len(video.frames) for video in videos)
    for video in videos:
        for name, mask, seconds in predict_video(
            model, video, memory_every=memory_every, size=size
        ):
            busy += seconds
            done += 1
            _write_mask(out / video.name / f"{name}.png", mask)
            if report is not None:
                report(done, total, video.name)
    elapsed = time.perf_counter() - began
    scored = all(len(video.masks) == len(video.frames) for video in videos)
    dataset = f"DAVIS {year} {split}"
    scores = score_results(out, videos, workers, dataset=dataset) if scored else None
    evaluation = Evaluation(
        scores=replace(scores, memory_every=memory_every) if scores else None,
        protocol={
            "dataset": dataset,
            "memory_every": memory_every,
            "short_side": size,
            "device": str(device),
            "checkpoint": origin,
        },
        frames_per_second=done / busy,
        frames_per_second_all=done / elapsed,
        peak_memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    )
    _write_results(out / RESULTS_NAME, evaluation)
    return evaluation


def predict_video(
    model: STM, video: Video, *, memory_every: int = MEMORY_EVERY, size: int | None = None
) -> Iterator[tuple[str, NDArray[np.uint8], float]]:
    """Segment one video; yields frame name, (H, W) uint8 ids, and the network's seconds.

    Only the first mask of every object is read. Frames are decoded one ahead, in a thread.
    """
    names = list(video.frames)
    given = (
        {0: video.read_mask(names[0])}
        if not video.first_seen
        else {
            names.index(name): video.read_mask(name)
            for name in sorted(set(video.first_seen.values()))
        }
    )
    labels = segment_video(
        model, _read_ahead(video, names), given, memory_every=memory_every, size=size
    )
    for name in names:
        began = time.perf_counter()
        mask = next(labels)
        yield name, mask, time.perf_counter() - began


def _read_ahead(video: Video, names: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(video.read_frame, names[0])
        for name in names[1:]:
            frame = pending.result()
            pending = pool.submit(video.read_frame, name)
            yield frame
        yield pending.result()


def _write_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_mask(mask))


def _write_results(path: Path, evaluation: Evaluation) -> None:
    value = {
        "protocol": dict(evaluation.protocol),
        "frames_per_second": evaluation.frames_per_second,
        "frames_per_second_with_reading": evaluation.frames_per_second_all,
        "peak_memory_bytes": evaluation.peak_memory,
        "scores": evaluation.scores.to_mapping() if evaluation.scores else None,
    }
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
