"""J and F per object, video and set, as JSON, CSV and a table."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stmtrain.files import write_whole
from stmtrain.images.masks import VOID
from stmtrain.scoring.metrics import (
    DECAY_BINS,
    RECALL_THRESHOLD,
    TOLERANCE,
    Statistics,
    statistics,
)

if TYPE_CHECKING:
    from rich.table import Table

GLOBAL_COLUMNS = (
    "J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay",
)  # fmt: skip
"""Columns of the official tool's ``global_results-<split>.csv``."""

VOID_RULE = f"ground-truth pixels of {VOID} are background, as in the official DAVIS evaluation"

_OBJECTS = {
    True: "one, mask > 0 (videos of one object)",
    False: "ids that the ground truth gives, each alone",
}

RESULTS_NAME = "results.json"
"""File in a folder of results that states their scores and how they were made."""


@dataclass(frozen=True)
class ObjectScore:
    """Measures of one object in the scored frames of its video, each in [0, 1].

    ``binary``: any non-zero pixel counted as the one object of the video.
    """

    video: str
    object_id: int
    frames: tuple[str, ...]
    j_values: tuple[float, ...]
    f_values: tuple[float, ...]
    binary: bool = False

    @property
    def j(self) -> Statistics:
        """Mean, recall and decay of J over the scored frames."""
        return statistics(self.j_values)

    @property
    def f(self) -> Statistics:
        """Mean, recall and decay of F over the scored frames."""
        return statistics(self.f_values)


@dataclass(frozen=True)
class Scores:
    """Measures of a set of videos: every object counts the same, whatever its video's length.

    Attributes:
        objects: In the order of the videos, then of their object ids; never empty.
        dataset: What was scored, for reports: ``DAVIS 2017 val``.
        memory_every: Every how many frames the method memorised one, N in the STM paper; None if
            unknown, since masks do not show it.
        frames_excluded: Which frames were not scored, in words.
        notes: Notes on ground truth and results, one line each; not part of equality.
        unscored: Videos that are not part of the mean, by name, with the reason.
    """

    objects: tuple[ObjectScore, ...]
    dataset: str = ""
    memory_every: int | None = None
    frames_excluded: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)
    unscored: Mapping[str, str] = field(default_factory=dict)

    @property
    def j(self) -> Statistics:
        """Mean over objects of J's mean, recall and decay."""
        return _mean([score.j for score in self.objects])

    @property
    def f(self) -> Statistics:
        """Mean over objects of F's mean, recall and decay."""
        return _mean([score.f for score in self.objects])

    @property
    def j_and_f(self) -> float:
        """Mean of J's and F's means, the number by which methods are ranked."""
        return (self.j.mean + self.f.mean) / 2

    def videos(self) -> "dict[str, Scores]":
        """Split by video, in order."""
        grouped: dict[str, list[ObjectScore]] = {}
        for score in self.objects:
            grouped.setdefault(score.video, []).append(score)
        return {name: Scores(tuple(scores)) for name, scores in grouped.items()}

    def protocol(self) -> dict[str, Any]:
        """Describe how these numbers were obtained, as plain JSON values."""
        return {
            "dataset": self.dataset,
            "task": "semi-supervised",
            "frames_excluded": list(self.frames_excluded),
            "frames_scored": self._num_frames(),
            "videos_scored": len(self.videos()),
            "videos_not_scored": dict(self.unscored),
            "objects": "; ".join(sorted({_OBJECTS[score.binary] for score in self.objects})),
            "void": "none" if all(score.binary for score in self.objects) else VOID_RULE,
            "average": "over frames, then over objects",
            "boundary_tolerance": TOLERANCE,
            "recall_threshold": RECALL_THRESHOLD,
            "decay_bins": DECAY_BINS,
            "memory_every": self.memory_every,
        }

    def to_mapping(self) -> dict[str, Any]:
        """Return protocol, set, videos and objects (with every frame) as plain JSON values.

        Set, videos and objects have the same keys, ``GLOBAL_COLUMNS``; values are in [0, 1].
        """
        return {
            "protocol": self.protocol(),
            "notes": list(self.notes),
            "global": self.columns(),
            "videos": {name: scores.columns() for name, scores in self.videos().items()},
            "objects": [
                {
                    "video": score.video,
                    "object_id": score.object_id,
                    **Scores((score,)).columns(),
                    "frames": list(score.frames),
                    "J": list(score.j_values),
                    "F": list(score.f_values),
                }
                for score in self.objects
            ],
        }

    def columns(self) -> dict[str, float]:
        """Return the set's numbers under the official names, ``GLOBAL_COLUMNS``, in [0, 1]."""
        return dict(zip(GLOBAL_COLUMNS, self._row(), strict=True))

    def write_csv(self, folder: Path, split: str) -> None:
        """Write the CSV files of the official tool, 3 decimals, under their official names."""
        sequences = [
            (f"{score.video}_{score.object_id}", f"{score.j.mean:.3f}", f"{score.f.mean:.3f}")
            for score in self.objects
        ]
        tables: dict[str, list[Sequence[str]]] = {
            f"global_results-{split}.csv": [
                GLOBAL_COLUMNS,
                tuple(f"{value:.3f}" for value in self._row()),
            ],
            f"per-sequence_results-{split}.csv": [("Sequence", "J-Mean", "F-Mean"), *sequences],
        }
        for name, rows in tables.items():
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(rows)
            write_whole(folder / name, text.getvalue())

    def table(self) -> "Table":
        """Return a rich table in percent: one row per object, the set last."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        excluded = " and ".join(self.frames_excluded)
        title = f"{self.dataset or 'Scores'}, percent; {excluded} frame not scored"
        table = Table(title=title, caption=self.extent(), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("object", no_wrap=True)
        for column in ("J&F", "J", "J rec.", "J dec.", "F", "F rec.", "F dec."):
            table.add_column(column, justify="right", no_wrap=True)
        for score in self.objects:
            table.add_row(f"{score.video}_{score.object_id}", *Scores((score,))._percent())
        table.add_section()
        table.add_row(f"mean of {len(self.objects)}", *self._percent(), style="bold")
        return table

    def extent(self) -> str:
        """Return what the mean is over, in words."""
        scored = len(self.videos())
        return (
            f"{scored} of {scored + len(self.unscored)} videos scored, {len(self.objects)} objects "
            f"in {self._num_frames()} frames"
        )

    def _num_frames(self) -> int:
        return len({(score.video, frame) for score in self.objects for frame in score.frames})

    def _row(self) -> tuple[float, ...]:
        return (self.j_and_f, *self.j, *self.f)

    def _percent(self) -> list[str]:
        return [f"{100 * value:.1f}" for value in self._row()]


def _mean(values: Sequence[Statistics]) -> Statistics:
    return Statistics(*(float(mean) for mean in np.mean(values, axis=0)))
