"""Score a folder of result masks against the ground truth of DAVIS: J, F, recall, decay.

In comes a folder ``<results>/<video>/<frame>.png``, whoever wrote it, and the videos of
:mod:`stmtrain.trees`; out comes :class:`Scores` with a table, JSON, and the official tool's two
CSV files. The protocol is that of the official semi-supervised evaluation and stands in the JSON.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stmtrain.decode import decode_mask
from stmtrain.errors import DataError, StmError, UsageError
from stmtrain.metrics import (
    DECAY_BINS,
    RECALL_THRESHOLD,
    TOLERANCE,
    Statistics,
    j_and_f,
    statistics,
)
from stmtrain.spec import VOID
from stmtrain.trees import Video, davis_videos

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["ObjectScore", "Scores", "score_davis", "score_results", "score_video"]

GLOBAL_COLUMNS = (
    "J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay",
)  # fmt: skip
"""Columns of the official tool's ``global_results-<split>.csv``."""

Progress = Callable[[int, int], None]
"""Called with the number of videos done and of all videos."""


@dataclass(frozen=True)
class ObjectScore:
    """Measures of one object in the scored frames of its video, each in [0, 1]."""

    video: str
    object_id: int
    frames: tuple[str, ...]
    j_values: tuple[float, ...]
    f_values: tuple[float, ...]

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
    """Measures of a whole set: every object counts the same, whatever its video's length.

    Attributes:
        objects: In the order of the videos, then of their object ids; never empty.
        binary: Whether any non-zero pixel counted as the one object (DAVIS 2016).
        dataset: What was scored, for people: ``DAVIS 2017 val``.
        memory_every: How often the results' maker memorised a frame, N in the STM paper; None
            when unknown, since masks do not tell.
    """

    objects: tuple[ObjectScore, ...]
    binary: bool
    dataset: str = ""
    memory_every: int | None = None

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
        """The mean of J's and F's means, the number that methods are ranked by."""
        return (self.j.mean + self.f.mean) / 2

    def videos(self) -> "dict[str, Scores]":
        """Split by video, in order."""
        names = dict.fromkeys(score.video for score in self.objects)
        return {
            name: Scores(tuple(s for s in self.objects if s.video == name), self.binary)
            for name in names
        }

    def protocol(self) -> dict[str, Any]:
        """Say how these numbers came about, as plain JSON values."""
        return {
            "dataset": self.dataset,
            "task": "semi-supervised",
            "frames_excluded": ["first", "last"],
            "frames_scored": sum(
                len(scores.objects[0].frames) for scores in self.videos().values()
            ),
            "objects": (
                "one, mask > 0" if self.binary else "ids of the first ground-truth mask, each alone"
            ),
            "void": "none" if self.binary else f"ground-truth pixels of {VOID} do not count",
            "average": "over frames, then over objects",
            "boundary_tolerance": TOLERANCE,
            "recall_threshold": RECALL_THRESHOLD,
            "decay_bins": DECAY_BINS,
            "memory_every": self.memory_every,
        }

    def to_mapping(self) -> dict[str, Any]:
        """Return protocol, set, videos and objects (with every frame) as plain JSON values."""
        return {
            "protocol": self.protocol(),
            "global": dict(zip(GLOBAL_COLUMNS, self._row(), strict=True)),
            "videos": {
                name: {"J&F": scores.j_and_f, "J": scores.j.mean, "F": scores.f.mean}
                for name, scores in self.videos().items()
            },
            "objects": [
                {
                    "video": score.video,
                    "object_id": score.object_id,
                    **{f"J-{k}": v for k, v in score.j._asdict().items()},
                    **{f"F-{k}": v for k, v in score.f._asdict().items()},
                    "frames": list(score.frames),
                    "J": list(score.j_values),
                    "F": list(score.f_values),
                }
                for score in self.objects
            ],
        }

    def to_json(self) -> bytes:
        """Encode :meth:`to_mapping` as an indented UTF-8 JSON file."""
        return (json.dumps(self.to_mapping(), indent=1, ensure_ascii=False) + "\n").encode()

    def global_csv(self) -> str:
        """Return ``global_results-<split>.csv`` as the official tool writes it, 3 decimals."""
        return _csv([GLOBAL_COLUMNS, tuple(f"{value:.3f}" for value in self._row())])

    def sequence_csv(self) -> str:
        """Return ``per-sequence_results-<split>.csv`` as the official tool writes it."""
        rows = [
            (f"{score.video}_{score.object_id}", f"{score.j.mean:.3f}", f"{score.f.mean:.3f}")
            for score in self.objects
        ]
        return _csv([("Sequence", "J-Mean", "F-Mean"), *rows])

    def write_csv(self, folder: Path, split: str) -> tuple[Path, Path]:
        """Write both CSV files under their official names; return their paths."""
        paths = (
            folder / f"global_results-{split}.csv",
            folder / f"per-sequence_results-{split}.csv",
        )
        for path, text in zip(paths, (self.global_csv(), self.sequence_csv()), strict=True):
            path.write_text(text, encoding="utf-8", newline="")
        return paths

    def table(self) -> "Table":
        """Return a rich table in percent: one row per object, the set last."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        title = f"{self.dataset or 'Scores'}, percent; first and last frame not scored"
        table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("object", no_wrap=True)
        for column in ("J&F", "J", "J rec.", "J dec.", "F", "F rec.", "F dec."):
            table.add_column(column, justify="right", no_wrap=True)
        for score in self.objects:
            alone = Scores((score,), self.binary)
            table.add_row(f"{score.video}_{score.object_id}", *alone._percent())
        table.add_section()
        table.add_row(f"mean of {len(self.objects)}", *self._percent(), style="bold")
        return table

    def _row(self) -> tuple[float, ...]:
        return (self.j_and_f, *self.j, *self.f)

    def _percent(self) -> list[str]:
        return [f"{100 * value:.1f}" for value in self._row()]


def score_davis(
    results: Path,
    root: Path,
    year: int,
    split: str,
    workers: int = 1,
    progress: Progress | None = None,
    resolution: str = "480p",
) -> Scores:
    """Score results against a DAVIS tree; see :func:`score_results` and ``trees.davis_videos``."""
    videos = davis_videos(root, year, split, resolution)
    return score_results(results, videos, workers, progress, dataset=f"DAVIS {year} {split}")


def score_results(
    results: Path,
    videos: Sequence[Video],
    workers: int = 1,
    progress: Progress | None = None,
    *,
    dataset: str = "",
) -> Scores:
    """Score ``<results>/<video>/<frame>.png`` against every video's ground truth.

    Palette, grey and 0/255 PNGs are read alike: by stored value. Ids that the ground truth does
    not have are background. The first and the last frame need not be there.

    Args:
        results: The folder of results.
        videos: Videos with a mask for every frame, all binary or none.
        workers: Processes; 1 works in this one. Numbers do not depend on it.
        progress: Called with (videos done, videos) after each video.
        dataset: Name for the report.

    Raises:
        UsageError: No videos, or ``workers`` below 1.
        DataError: A result is missing, unreadable or of another size, or a ground truth is.
    """
    if not videos or len({video.binary for video in videos}) > 1:
        raise UsageError(f"videos: expected binary ones or none, found {len(videos)} videos")
    if workers < 1:
        raise UsageError(f"workers: expected 1 or more, found {workers}")
    if not results.is_dir():
        raise DataError(f"{results}: expected the folder of results, found none; check the path")
    for video in videos:
        _check_results(results, video)  # cheap, and before minutes of work
    scored: dict[int, list[ObjectScore]] = {}
    for index, objects in _score_all(results, videos, min(workers, len(videos))):
        scored[index] = objects
        if progress is not None:
            progress(len(scored), len(videos))
    in_order = tuple(score for index in sorted(scored) for score in scored[index])
    return Scores(in_order, binary=videos[0].binary, dataset=dataset)


def score_video(results: Path, video: Video) -> list[ObjectScore]:
    """Score one video; arguments and errors as in :func:`score_results`."""
    names = _scored_frames(video)
    ids = _objects_of(video)
    values = np.empty((len(ids), len(names), 2))
    for t, name in enumerate(names):
        truth = video.read_mask(name)
        predicted = _read_result(results / video.name / f"{name}.png", video, truth.shape)
        void = truth == VOID
        for i, object_id in enumerate(ids):
            values[i, t] = j_and_f(
                _pixels_of(predicted, object_id, alone=len(ids) == 1),
                truth == object_id,
                void if void.any() else None,
            )
    return [
        ObjectScore(
            video.name,
            object_id,
            tuple(names),
            tuple(row[:, 0].tolist()),
            tuple(row[:, 1].tolist()),
        )
        for object_id, row in zip(ids, values, strict=True)
    ]


def _score_all(
    results: Path, videos: Sequence[Video], workers: int
) -> Iterator[tuple[int, list[ObjectScore]]]:
    """Yield (position, scores) as videos get done; longest first, so that no one is left last."""
    if workers == 1:
        for index, video in enumerate(videos):
            yield index, score_video(results, video)
        return
    order = sorted(range(len(videos)), key=lambda i: -len(videos[i].frames))
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        futures = {pool.submit(score_video, results, videos[i]): i for i in order}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise StmError(
            f"{results}: a scoring process died, perhaps for want of memory; use fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _scored_frames(video: Video) -> list[str]:
    """Return all frames but the first and the last, the protocol of both DAVIS years."""
    bare = [name for name in video.frames if name not in video.masks]
    if bare:
        raise DataError(
            f"video {video.name!r}: expected ground truth for every frame, found none for "
            f"{len(bare)} of {len(video.frames)}, the first is {bare[0]!r}; this split cannot be "
            "scored locally, hand the results to its evaluation server"
        )
    names = list(video.frames)[1:-1]
    if not names:
        raise DataError(
            f"video {video.name!r}: expected 3 frames or more, found {len(video.frames)}; the "
            "first and the last are not scored"
        )
    return names


def _check_results(results: Path, video: Video) -> None:
    if video.first_seen:
        raise UsageError(
            f"video {video.name!r}: expected DAVIS, found YouTube-VOS, whose late objects follow "
            "another protocol; hand the results to its evaluation server"
        )
    folder = results / video.name
    if not folder.is_dir():
        raise DataError(f"{folder}: expected the results of video {video.name!r}, found no folder")
    names = _scored_frames(video)
    there = {path.name for path in folder.iterdir()}
    missing = [name for name in names if f"{name}.png" not in there]
    if missing:
        raise DataError(
            f"{folder}: expected a mask for each of {len(names)} scored frames, found none for "
            f"{len(missing)}, the first is {missing[0]}.png; run the method on the whole video"
        )


def _objects_of(video: Video) -> list[int]:
    """Return the ids of the first mask: the objects that a method is given."""
    if video.binary:
        return [1]
    first = next(iter(video.frames))
    ids = [int(i) for i in np.unique(video.read_mask(first)) if i not in (0, VOID)]
    if not ids:
        raise DataError(
            f"video {video.name!r}: expected objects in the first mask, {video.masks[first]}, "
            "found none; the ground truth is damaged"
        )
    return ids


def _read_result(path: Path, video: Video, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); write it again") from None
    mask = decode_mask(data, str(path))
    if mask.shape != shape:
        raise DataError(
            f"{path}: expected {shape[1]}x{shape[0]} pixels like the ground truth, found "
            f"{mask.shape[1]}x{mask.shape[0]}; save results at the video's own size"
        )
    return (mask > 0).astype(np.uint8) if video.binary else mask


def _pixels_of(predicted: NDArray[np.uint8], object_id: int, *, alone: bool) -> NDArray[np.bool_]:
    """Return one object's pixels; where there is only one object, 255 means it too (0/255 PNGs)."""
    pixels: NDArray[np.bool_] = predicted == object_id
    return pixels | (predicted == VOID) if alone else pixels


def _mean(values: Sequence[Statistics]) -> Statistics:
    return Statistics(*(float(mean) for mean in np.mean(values, axis=0)))


def _csv(rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()
