"""The outcome of an evaluation: a summary for people, ``results.json`` for programs."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from stmtrain.datasets.video_set import VideoSet
from stmtrain.inference.options import Inference, options_in_words
from stmtrain.inference.results import VideoCost
from stmtrain.scoring.scores import Scores


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured.

    Attributes:
        scores: J and F of every object; ``None`` if they cannot be computed here.
        protocol: How it was done: data set, options of inference, checkpoint, device.
        warnings: What deviates from the data set as its authors intended it: resampled masks,
            objects without a mask.
        frames_per_second: Frames per second spent in the network.
        frames_per_second_all: Frames per second in total, including reading and writing.
        peak_memory: Peak memory in bytes, allocated on the GPU or resident on the CPU.
        kept: Videos that an earlier run with the same settings had finished.
    """

    scores: Scores | None
    protocol: Mapping[str, Any]
    warnings: tuple[str, ...]
    frames_per_second: float
    frames_per_second_all: float
    peak_memory: int
    kept: int = 0

    def to_mapping(self) -> dict[str, Any]:
        """Return the content of ``results.json`` as plain JSON values."""
        return {
            "protocol": dict(self.protocol),
            "warnings": list(self.warnings),
            "frames_per_second": self.frames_per_second,
            "frames_per_second_with_reading": self.frames_per_second_all,
            "peak_memory_bytes": self.peak_memory,
            "scores": self.scores.to_mapping() if self.scores else None,
        }

    def summary(self) -> str:
        """Describe in a few lines how the numbers were obtained, so that they can be compared."""
        protocol, origin = self.protocol, self.protocol["checkpoint"]
        known = ", ".join([protocol["frames_excluded"], *protocol["notes"]])
        lines = [
            f"{protocol['dataset']}: {known}",
            options_in_words(protocol),
            f"{origin['backbone']} after {origin['trained']}",
            f"{self.frames_per_second:.1f} frames/s in the network, "
            f"{self.frames_per_second_all:.1f} with reading and writing; "
            f"{self.peak_memory / 2**30:.2f} GiB peak {protocol['peak_memory_of']}",
        ]
        if self.kept:
            lines.append(f"{self.kept} of {protocol['videos']} videos kept from an earlier run")
        return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])


def protocol_of(
    videos: VideoSet,
    options: Inference,
    origin: Mapping[str, Any],
    device: torch.device,
    scores: Scores | None,
    why_not: str | None,
) -> dict[str, Any]:
    """Describe how the results were obtained, as plain JSON values."""
    late = sum(len(set(video.first_seen.values())) > 1 for video in videos.videos)
    if scores is not None:
        excluded = f"{' and '.join(scores.frames_excluded)} frame not scored"
    else:
        excluded = f"not scored here: {why_not}"
    return {
        "dataset": videos.dataset,
        "videos": len(videos.videos),
        "frames": videos.frames,
        "videos_with_late_objects": late,
        "notes": list(videos.notes),
        "frames_excluded": excluded,
        "masks_mended": list(videos.misfits),
        **asdict(options),
        "device": str(device),
        "peak_memory_of": "GPU memory" if device.type == "cuda" else "of the process (no GPU)",
        "checkpoint": origin,
    }


def add_up(
    costs: Collection[VideoCost],
    scores: Scores | None,
    protocol: Mapping[str, Any],
    warnings: tuple[str, ...],
    kept: int,
) -> Evaluation:
    """Add up the costs of all videos, including those of earlier runs with the same settings."""
    frames = sum(cost.frames for cost in costs)
    return Evaluation(
        scores=scores,
        protocol=protocol,
        warnings=warnings,
        frames_per_second=frames / sum(cost.network for cost in costs),
        frames_per_second_all=frames / sum(cost.seconds for cost in costs),
        peak_memory=max(cost.peak_memory for cost in costs),
        kept=kept,
    )
