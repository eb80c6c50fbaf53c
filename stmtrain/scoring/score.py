"""Score a folder of result masks against a data set's ground truth: J, F, recall, decay.

In comes a folder ``<results>/<video>/<frame>.png``, whoever wrote it, and the videos of
``trees``; out comes :class:`Scores`. For DAVIS the protocol is that of
the official semi-supervised evaluation: the first and the last frame are not scored, and a scored
frame without a result is an error, never an empty mask. Where the official tool stops at an id that
the ground truth does not have, here it counts as background, and a note says so.

YouTube-VOS is scored where its masks are public (the train split): each object in the frames that
``meta.json`` lists for it, except the one that gives its mask.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from stmtrain.scoring.scores import ObjectScore, Scores

__all__ = ["VideoScore", "read_result", "score", "score_results", "score_video"]


@dataclass(frozen=True)
class VideoScore:
    """One video's objects, and what a reader should know of its result files."""

    objects: tuple[ObjectScore, ...]
    notes: tuple[str, ...] = ()


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
    results: Path,
    videos: VideoSet,
    workers: int = 1,
    progress: Progress | None = None,
) -> Scores:
    """Score ``<results>/<video>/<frame>.png`` against every video's ground truth.

    Palette, grey and 0/255 PNGs are read alike: by stored value. Ids that the ground truth does
    not have are background. Frames that are not scored need not be there.

    Args:
        results: The folder of results.
        videos: Their ground truth and the protocol to score by.
        workers: Processes; 1 works in this one. Numbers do not depend on it.
        progress: Called after each video.

    Raises:
        UsageError: No videos, videos of several kinds, or ``workers`` below 1.
        DataError: A result is missing, unreadable or of another size, or a ground truth is.
    """
    if not videos.videos or videos.is_mixed():
        raise UsageError(
            f"videos: expected some, all of one data set's kind, found {len(videos.videos)} videos"
        )
    if workers < 1:
        raise UsageError(f"workers: expected 1 or more, found {workers}")
    if not results.is_dir():
        raise DataError(f"{results}: expected the folder of results, found none; check the path")
    for video in videos.videos:
        _check_results(results, video, videos.protocol)  # cheap, and before minutes of work
    scored: dict[int, VideoScore] = {}
    # The longest videos first, so that no worker has to finish one alone at the end.
    order = sorted(range(len(videos.videos)), key=lambda i: -len(videos.videos[i].frames))
    for index, score in map_unordered(_ScoreVideo(results, videos), order, workers):
        scored[index] = score
        if progress is not None:
            progress(len(scored), len(videos.videos), "")
    in_order = [scored[index] for index in sorted(scored)]
    objects = tuple(score for video in in_order for score in video.objects)
    if not objects:
        raise DataError(
            f"{videos.dataset}: expected an object with ground truth after its first frame in "
            f"one of {len(videos.videos)} videos, found none; score another split"
        )
    return Scores(
        objects,
        binary=videos.videos[0].binary,
        dataset=videos.dataset,
        frames_excluded=videos.protocol.frames_excluded,
        notes=tuple(note for video in in_order for note in video.notes),
    )


def score_video(results: Path, video: VideoSource, protocol: Protocol) -> VideoScore:
    """Score one video; arguments and errors as in :func:`score_results`."""
    scored = protocol.scored_frames(video)
    known = given_ids(video)
    values: dict[int, list[tuple[float, float]]] = {object_id: [] for object_id in scored}
    strange: Counter[int] = Counter()
    for name in _in_order(video, scored):
        truth = video.read_mask(name)
        predicted = read_result(results, video, name, truth.shape, known)
        void = truth == VOID
        for object_id, names in scored.items():
            if name in names:
                own, true = predicted == object_id, truth == object_id
                values[object_id].append(j_and_f(own, true, void if void.any() else None))
        strange.update(_strange_ids(predicted, known))
    objects = tuple(
        ObjectScore(
            video.name,
            object_id,
            scored[object_id],
            tuple(j for j, _ in pairs),
            tuple(f for _, f in pairs),
        )
        for object_id, pairs in values.items()
    )
    unscored = sorted(set(known) - set(scored))
    return VideoScore(objects, tuple(_notes(results, video, known, unscored, strange)))


@dataclass(frozen=True)
class _ScoreVideo:
    """Scores the video at a position; the function that the workers run."""

    results: Path
    videos: VideoSet

    def __call__(self, position: int) -> tuple[int, VideoScore]:
        video = self.videos.videos[position]
        return position, score_video(self.results, video, self.videos.protocol)


def read_result(
    results: Path,
    video: VideoSource,
    frame_name: str,
    shape: tuple[int, ...],
    object_ids: Sequence[int],
) -> NDArray[np.uint8]:
    """Read one result mask as it is scored.

    In a binary video every non-zero pixel is object 1; where there is only one object, 255 means it
    too (0/255 PNGs).

    Args:
        results: The folder of results.
        video: Its ground truth.
        frame_name: One of the video's frames.
        shape: (H, W) of the ground truth.
        object_ids: The video's :func:`~stmtrain.datasets.protocol.given_ids`.

    Returns:
        (H, W) uint8 object ids, among them perhaps ids that the ground truth does not have.

    Raises:
        DataError: Unreadable, no label map, or of another size.
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
    names = _in_order(video, protocol.scored_frames(video))
    folder = results / video.name
    if not folder.is_dir():
        nested = sorted(path.parent for path in results.glob(f"*/{video.name}") if path.is_dir())
        advice = f"; pass {nested[0]}" if nested else "; run the method on the whole split"
        raise DataError(
            f"{folder}: expected the results of video {video.name!r}, found no folder{advice}"
        )
    there = {path.name for path in folder.iterdir()}
    missing = [name for name in names if f"{name}.png" not in there]
    if missing:
        others = sorted(there - {f"{name}.png" for name in video.frames})
        beside = f" (beside others, such as {others[0]})" if others else ""
        raise DataError(
            f"{folder}: expected a mask for each of {len(names)} scored frames, found none for "
            f"{len(missing)}, the first is {missing[0]}.png{beside}; run the method on the whole "
            "video and name its PNGs like the frames"
        )


def _strange_ids(predicted: NDArray[np.uint8], known: Sequence[int]) -> list[int]:
    """Return the ids of a result that are no object's."""
    found = np.flatnonzero(areas(predicted)).tolist()
    return sorted(set(found) - {0, *known})


def _notes(
    results: Path,
    video: VideoSource,
    known: Sequence[int],
    unscored: Sequence[int],
    strange: Counter[int],
) -> Iterator[str]:
    for object_id in unscored:
        yield f"{video.name}: object {object_id} is not scored, only its first frame has a mask"
    if strange:
        ids = ", ".join(map(str, sorted(strange)[:8])) + (", ..." if len(strange) > 8 else "")
        yield (
            f"{video.name}: {ids} in up to {max(strange.values())} frames are none of its "
            f"object ids ({', '.join(map(str, known))}) and count as background"
        )
    there = sorted(path.stem for path in (results / video.name).glob("*.png"))
    extra = [stem for stem in there if stem not in video.frames and not stem.startswith(".")]
    if extra:
        first = f"{extra[0]}.png"
        yield f"{video.name}: {len(extra)} PNG files belong to no frame, the first is {first}"
