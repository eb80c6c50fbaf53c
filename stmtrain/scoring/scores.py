"""J and F per object, video and set, as JSON, CSV and a table."""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stmtrain.datasets.protocol import OWN_VIDEOS, Protocol
from stmtrain.files import write_whole
from stmtrain.scoring.metrics import DECAY_BINS, RECALL_THRESHOLD, Statistics, statistics
from stmtrain.scoring.numbers import labels, mean_numbers, object_numbers, set_numbers
from stmtrain.settings import to_mapping
from stmtrain.shards.sample import canonical_json

if TYPE_CHECKING:
    from rich.table import Table

GLOBAL_COLUMNS = (
    "J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay",
)  # fmt: skip
"""Columns of the official tool's ``global_results-<split>.csv``."""

VOID_RULES = {
    "background": "ground-truth pixels of 255 are background, as in the official DAVIS evaluation",
    "object": "ground-truth pixels of 255 are an object of their own, as in the official code",
    "ignored": "ground-truth pixels of 255 are not compared",
}

_SHORT = {
    "J_recall": "J rec.", "J_decay": "J dec.", "F_recall": "F rec.", "F_decay": "F dec.",
    "J_tr_recall": "J_tr rec.", "J_tr_decay": "J_tr dec.",
}  # fmt: skip

_MOST_COLUMNS = 7
"""Of the table in the terminal; the JSON has all measures."""

_ONE = "one, mask > 0 (videos of one object)"
_OBJECTS = {
    "given": "ids that the ground truth gives, each alone",
    "numbered": "ids from 1 to the largest of the first mask, each alone",
    "listed": "ids that the data set lists, each alone",
    "seen": "ids of the scored true masks, each alone",
    "one": _ONE,
    "folders": "one in each folder, mask > 0",
}

RESULTS_NAME = "results.json"
"""File in a folder of results that states their scores and how they were made."""


@dataclass(frozen=True)
class ObjectScore:
    """Measures of one object in the scored frames of its video, each in [0, 1].

    Attributes:
        video: Name of the video; ``video/folder`` if each object has a folder.
        object_id: Its id; 1 if it has a folder.
        frames: Names of the frames that count, in time order.
        j_values: J in each.
        f_values: F in each.
        binary: Any non-zero pixel counted as the one object.
        f_dot_values: The second F in each, if the protocol has one.
        visible: Whether the true mask shows the object, in each.
        shown_first: Whether the video's first true mask shows it, if the protocol asks.
        before_seen: Frames that do not count because nothing shows the object yet.
    """

    video: str
    object_id: int
    frames: tuple[str, ...]
    j_values: tuple[float, ...]
    f_values: tuple[float, ...]
    binary: bool = False
    f_dot_values: tuple[float, ...] = ()
    visible: tuple[bool, ...] = ()
    shown_first: bool = False
    before_seen: tuple[str, ...] = ()

    @property
    def label(self) -> tuple[str, str]:
        """The video and the object, as files name them."""
        video, _, folder = self.video.partition("/")
        return video, folder or str(self.object_id)

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
        rules: The protocol.
        notes: Notes on ground truth and results, one line each; not part of equality.
        unscored: Videos that are not part of the mean, by name, with the reason.
        missing: Videos without results, by name, and what they count.
        unseen: The objects (video, id) of categories or videos that were not trained on.
    """

    objects: tuple[ObjectScore, ...]
    dataset: str = ""
    memory_every: int | None = None
    rules: Protocol = OWN_VIDEOS
    notes: tuple[str, ...] = field(default=(), compare=False)
    unscored: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    unseen: frozenset[tuple[str, int]] | None = None

    @property
    def frames_excluded(self) -> tuple[str, ...]:
        """Which frames were not scored, in words."""
        return self.rules.frames_excluded

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

    def counted(self) -> str:
        """Return a digest of the videos, objects and frames that the numbers are made of.

        Frames before an object's first sight depend on the results, and are part of it.
        """
        rows = sorted((*one.label, one.before_seen + one.frames) for one in self.objects)
        return hashlib.sha256(canonical_json([list(row) for row in rows])).hexdigest()

    def protocol(self) -> dict[str, Any]:
        """Describe how these numbers were obtained, as plain JSON values."""
        rules = self.rules
        binary = all(one.binary for one in self.objects)
        return {
            "name": rules.name,
            "version": rules.version,
            "official": rules.official,
            "counted_sha256": self.counted(),
            "dataset": self.dataset,
            "task": "semi-supervised",
            "frames_excluded": list(rules.frames_excluded),
            "frames_scored": self._num_frames(),
            "videos_scored": len({one.label[0] for one in self.objects}),
            "objects_scored": len(self.objects),
            "videos_not_scored": dict(self.unscored),
            "videos_missing": dict(self.missing),
            "objects": _ONE if rules.objects == "given" and binary else _OBJECTS[rules.objects],
            "void": "none" if binary else VOID_RULES[rules.void],
            "average": "over frames, then over objects",
            "boundary_tolerance": rules.tolerance,
            "recall_threshold": RECALL_THRESHOLD,
            "decay_bins": DECAY_BINS,
            "memory_every": self.memory_every,
            "rules": to_mapping(rules),
        }

    def to_mapping(self) -> dict[str, Any]:
        """Return protocol, set, videos and objects (with every frame) as plain JSON values.

        Numbers have the names that the protocol's official code gives them; values are in [0, 1],
        and None where a number is not defined.
        """
        names = labels("", self.rules)
        by_video: dict[str, list[ObjectScore]] = {}
        for one in self.objects:
            by_video.setdefault(one.label[0], []).append(one)
        means = {video: mean_numbers(of, self.rules) for video, of in by_video.items()}
        return {
            "protocol": self.protocol(),
            "notes": list(self.notes),
            "global": set_numbers(self),
            "videos": {v: {names[k]: x for k, x in of.items()} for v, of in means.items()},
            "objects": [self._object_mapping(one, names) for one in self.objects],
        }

    def _object_mapping(self, one: ObjectScore, names: Mapping[str, str]) -> dict[str, Any]:
        video, object_id = one.label
        numbers = object_numbers(one, self.rules)
        values = {"J": list(one.j_values), "F": list(one.f_values)}
        if one.f_dot_values:
            values["F_dot"] = list(one.f_dot_values)
        group = {}
        if self.rules.seen_unseen and self.unseen is not None:
            group = {"unseen": (one.video, one.object_id) in self.unseen}
        return {
            "video": video,
            "object_id": object_id if "/" in one.video else one.object_id,
            **group,
            **{names[name]: value for name, value in numbers.items()},
            "frames": list(one.frames),
            **(values if self.rules.names == "dashed" else {"per_frame": values}),
        }

    def columns(self) -> dict[str, float]:
        """Return J and F of the set under the names of DAVIS, ``GLOBAL_COLUMNS``, in [0, 1]."""
        return dict(zip(GLOBAL_COLUMNS, self._row(), strict=True))

    def write_csv(self, folder: Path, split: str) -> None:
        """Write the CSV files of the official tool, 3 decimals, under their official names."""
        sequences = [
            ("_".join(score.label), f"{score.j.mean:.3f}", f"{score.f.mean:.3f}")
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
        title = f"{self.dataset or 'Scores'}, {self.rules.name}, percent; {excluded} not scored"
        table = Table(title=title, caption=self.extent(), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("object", no_wrap=True)
        shown = self.rules.measures[:_MOST_COLUMNS]
        for name in shown:
            table.add_column(_SHORT.get(name, name), justify="right", no_wrap=True)
        for one in self.objects:
            numbers = object_numbers(one, self.rules)
            table.add_row("_".join(one.label), *_percent(numbers[name] for name in shown))
        table.add_section()
        means = set_numbers(self)
        groups = self.rules.seen_unseen and bool(self.unseen)
        kinds = ("seen", "unseen", "") if groups else ("all",) if self.rules.seen_unseen else ("",)
        for kind in kinds:
            names = labels(kind, self.rules)
            row = [means[names[name]] for name in shown]
            title = kind if groups else f"mean of {len(self.objects)}"
            title = title or "mean of both"
            table.add_row(title, *_percent(row), style="bold")
        if groups:
            name, value = next(iter(means.items()))
            table.add_row(f"{name}: {_percent([value])[0]}", style="bold")
        return table

    def extent(self) -> str:
        """Return what the mean is over, in words."""
        scored = len({one.label[0] for one in self.objects})
        left_out = len(self.unscored)
        left_out += sum(name not in {s.label[0] for s in self.objects} for name in self.missing)
        return (
            f"{scored} of {scored + left_out} videos scored, {len(self.objects)} objects "
            f"in {self._num_frames()} frames; counted {self.counted()[:12]}"
        )

    def _num_frames(self) -> int:
        return len({(score.video, frame) for score in self.objects for frame in score.frames})

    def _row(self) -> tuple[float, ...]:
        return (self.j_and_f, *self.j, *self.f)


def _percent(values: Iterable[float | None]) -> list[str]:
    return ["-" if value is None else f"{100 * value:.1f}" for value in values]


def _mean(values: Sequence[Statistics]) -> Statistics:
    return Statistics(*(float(mean) for mean in np.mean(values, axis=0)))
