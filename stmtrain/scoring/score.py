"""Score a folder of result masks against the ground truth of a data set: J, F, recall, decay.

The results are ``<results>/<video>/<frame>.png``, written by any method. The protocol of the data
set states which frames are scored (:mod:`stmtrain.datasets.protocol`); DAVIS is scored as by the
official semi-supervised evaluation. A scored frame without a result is an error, never an empty
mask. The official tool stops at an id that the ground truth does not have; here such an id counts
as background, and a note reports it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stmtrain.datasets.dataset import find_dataset
from stmtrain.datasets.protocol import Protocol, given_ids
from stmtrain.datasets.video import VideoSource
from stmtrain.datasets.video_set import VideoSet
from stmtrain.errors import DataError, UsageError
from stmtrain.files import read_file
from stmtrain.images.decode import decode_mask
from stmtrain.images.masks import VOID, areas
from stmtrain.processes import Progress, map_unordered
from stmtrain.scoring.metrics import j_and_f
from stmtrain.scoring.scores import VOID_RULE, ObjectScore, Scores


@dataclass(frozen=True)
class VideoScore:
    """The scores of a video's objects, and notes on its result files for the reader.

    ``void_frames`` of its scored frames have void pixels in the ground truth.
    """

    objects: tuple[ObjectScore, ...]
    notes: tuple[str, ...] = ()
    void_frames: int = 0


def score(
    results: Path | str,
    root: Path | str,
    dataset: str = "davis2017",
    split: str | None = None,
    *,
    workers: int = 1,
) -> Scores:
    """Score a folder of result masks against a data set, as ``stm score`` does.

    Args:
        results: Folder with ``<video>/<frame>.png``, written by any method.
        root: Folder of the data set.
        dataset: ``davis2016``, ``davis2017``, ``youtube-vos``, ...: a name in
            :data:`stmtrain.datasets.dataset.DATASETS`.
        split: Part of the data set; by default the one that is usually evaluated.
        workers: Processes; the scores do not depend on it.

    Returns:
        The scores, each in [0, 1]: ``j_and_f``, ``j.mean``, ``f.mean``, and those of every object.

    Raises:
        UsageError: The data set or split is unknown.
        DataError: A scored frame has no result or no ground truth, or a file is damaged.

    Example:
        >>> score("results", "DAVIS", "davis2017", "val").j_and_f  # doctest: +SKIP
        0.818
    """
    videos = find_dataset(dataset).open(Path(root), split)
    return score_results(Path(results), videos, workers)


def score_results(
    results: Path, videos: VideoSet, workers: int = 1, progress: Progress | None = None
) -> Scores:
    """Score ``<results>/<video>/<frame>.png`` against the ground truth of every video.

    Palette, grey and 0/255 PNGs are all read by stored value. Ids that the ground truth does not
    have count as background. Frames that are not scored may be missing.

    Args:
        results: The folder of results.
        videos: Ground truth and the protocol to score by.
        workers: Processes, 1 for this one; the scores do not depend on it.
        progress: Called after each video.

    Raises:
        UsageError: No videos, videos of several kinds, or ``workers`` below 1.
        DataError: A result or ground truth is missing, unreadable or of the wrong size.
    """
    if not videos.videos:
        raise UsageError("videos: expected one or more, found none")
    if workers < 1:
        raise UsageError(f"workers: expected 1 or more, found {workers}")
    if not results.is_dir():
        raise DataError(f"{results}: expected the folder of results, found none; check the path")
    why_not = videos.why_not_scored()
    if why_not is not None:
        raise DataError(f"{videos.dataset}: {why_not}")
    unscored = videos.unscored()
    videos = replace(videos, videos=tuple(v for v in videos.videos if v.name not in unscored))
    count = len(videos.videos)
    for video in videos.videos:
        _check_results(results, video, videos.protocol)  # takes seconds, scoring takes minutes
    scored: dict[int, VideoScore] = {}
    # The longest videos first, so that no worker has to finish one alone at the end.
    order = sorted(range(count), key=lambda i: -len(videos.videos[i].frames))
    for position, video_score in map_unordered(partial(_score_at, results, videos), order, workers):
        scored[position] = video_score
        if progress is not None:
            progress(len(scored), count, "")
    in_order = [scored[position] for position in range(count)]
    return Scores(
        tuple(one for video_score in in_order for one in video_score.objects),
        dataset=videos.dataset,
        frames_excluded=videos.protocol.frames_excluded,
        notes=tuple(_notes(results, in_order, unscored)),
        unscored=unscored,
    )


def _notes(
    results: Path, scored: Sequence[VideoScore], unscored: Mapping[str, str]
) -> Iterator[str]:
    """Note what a reader must know to believe the numbers, before details of single videos."""
    objects = [one for video_score in scored for one in video_score.objects]
    if all(value == 1 for one in objects for value in (*one.j_values, *one.f_values)):
        yield (
            f"every scored mask equals the ground truth; check that {results} holds the masks of "
            "a method, not the annotations"
        )
    void_frames = sum(video_score.void_frames for video_score in scored)
    if void_frames:
        yield f"void in {void_frames} scored frames: {VOID_RULE}"
    for name, why in unscored.items():
        yield f"{name}: not scored, {why}"
    for video_score in scored:
        yield from video_score.notes


def score_video(results: Path, video: VideoSource, protocol: Protocol) -> VideoScore:
    """Score one video; arguments and errors as in :func:`score_results`."""
    scored = protocol.scored_frames(video)
    object_ids = given_ids(video)
    values: dict[int, list[tuple[float, float]]] = {object_id: [] for object_id in scored}
    unknown_ids: Counter[int] = Counter()
    void_frames = 0
    for name in _in_order(video, scored):
        truth = video.read_mask(name)
        predicted = read_result(results, video, name, truth.shape, object_ids)
        void_frames += bool((truth == VOID).any())
        for object_id, names in scored.items():
            if name in names:
                values[object_id].append(j_and_f(predicted == object_id, truth == object_id))
        present = np.flatnonzero(areas(predicted)).tolist()
        unknown_ids.update(set(present) - {0, *object_ids})
    objects = tuple(
        ObjectScore(
            video.name,
            object_id,
            scored[object_id],
            tuple(j for j, _ in pairs),
            tuple(f for _, f in pairs),
            video.binary,
        )
        for object_id, pairs in values.items()
    )
    notes = [
        f"{video.name}: object {object_id} is not scored, no frame that counts has its mask"
        for object_id in sorted(set(object_ids) - set(scored))
    ]
    if unknown_ids:
        notes.append(f"{video.name}: {_unknown_in_words(unknown_ids, object_ids)}")
    notes.extend(_extra_files(results, video))
    return VideoScore(objects, tuple(notes), void_frames)


def _score_at(results: Path, videos: VideoSet, position: int) -> tuple[int, VideoScore]:
    """Score the video at a position; what the workers run."""
    return position, score_video(results, videos.videos[position], videos.protocol)


def read_result(
    results: Path,
    video: VideoSource,
    frame_name: str,
    shape: tuple[int, ...],
    object_ids: Sequence[int],
) -> NDArray[np.uint8]:
    """Read one result mask as it is scored.

    In a binary video every non-zero pixel is object 1. In a video of one object, 255 means that
    object too (0/255 PNGs).

    Args:
        results: The folder of results.
        video: The ground truth.
        frame_name: One of the video's frames.
        shape: (H, W) of the ground truth.
        object_ids: The video's :func:`~stmtrain.datasets.protocol.given_ids`.

    Returns:
        (H, W) uint8 object ids, which may include ids that the ground truth does not have.

    Raises:
        DataError: The file is unreadable, not a label map, or of the wrong size.
    """
    path = results / video.name / f"{frame_name}.png"
    mask = decode_mask(read_file(path, "write it again"), str(path))
    if mask.shape != shape:
        raise DataError(
            f"{path}: expected {shape[1]}x{shape[0]} pixels like the ground truth, found "
            f"{mask.shape[1]}x{mask.shape[0]}; save results at the video's own size"
        )
    if video.binary:
        return (mask > 0).astype(np.uint8)
    if len(object_ids) == 1:
        mask[mask == VOID] = object_ids[0]
    return mask


def _in_order(video: VideoSource, scored: Mapping[int, Sequence[str]]) -> list[str]:
    """Return every frame in which any object is scored, in time order."""
    names = {name for names in scored.values() for name in names}
    return [name for name in video.frames if name in names]


def _check_results(results: Path, video: VideoSource, protocol: Protocol) -> None:
    """Refuse a video without a result for every scored frame."""
    names = _in_order(video, protocol.scored_frames(video))
    folder = results / video.name
    if not folder.is_dir():
        nested = sorted(path.parent for path in results.glob(f"*/{video.name}") if path.is_dir())
        advice = f"pass {nested[0]}" if nested else "run the method on the complete split"
        raise DataError(
            f"{folder}: expected the results of video {video.name!r}, found no folder; {advice}"
        )
    present = {path.name for path in folder.iterdir()}
    missing = [name for name in names if f"{name}.png" not in present]
    if missing:
        others = sorted(present - {f"{name}.png" for name in video.frames})
        found = f", but {len(others)} others beside them, such as {others[0]}" if others else ""
        raise DataError(
            f"{folder}: expected a mask for each of {len(names)} scored frames, found none for "
            f"{len(missing)}, the first is {missing[0]}.png{found}; run the method on the complete "
            "video and name its PNGs like the frames"
        )


def _unknown_in_words(frames_of: Counter[int], object_ids: Sequence[int], most: int = 8) -> str:
    """Describe ids that are not object ids, given the number of frames that have each."""
    listed = ", ".join(map(str, sorted(frames_of)[:most]))
    if len(frames_of) > most:
        listed += ", ..."
    return (
        f"{listed} in up to {max(frames_of.values())} frames are none of its object ids "
        f"({', '.join(map(str, object_ids))}) and count as background"
    )


def _extra_files(results: Path, video: VideoSource) -> Iterator[str]:
    """Note PNG files that are named like none of the frames."""
    stems = sorted(path.stem for path in (results / video.name).glob("*.png"))
    extra = [stem for stem in stems if stem not in video.frames and not stem.startswith(".")]
    if extra:
        yield (
            f"{video.name}: {len(extra)} PNG files belong to no frame, the first is {extra[0]}.png"
        )
