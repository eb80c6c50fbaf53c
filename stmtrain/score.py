"""Score a folder of result masks against the ground truth of DAVIS: J, F, recall, decay.

In comes a folder ``<results>/<video>/<frame>.png``, whoever wrote it, and the videos of
:mod:`stmtrain.trees`; out comes :class:`stmtrain.scores.Scores`. The protocol is that of the
official semi-supervised evaluation and stands in its JSON.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stmtrain.decode import decode_mask
from stmtrain.errors import DataError, StmError, UsageError
from stmtrain.metrics import j_and_f
from stmtrain.scores import ObjectScore, Scores
from stmtrain.spec import VOID
from stmtrain.trees import Video, davis_videos

__all__ = ["score_davis", "score_results", "score_video"]

Progress = Callable[[int, int], None]
"""Called with the number of videos done and of all videos."""


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
